//! Disks that are full. Linux has a file that always is.

#![cfg(target_os = "linux")]

use std::{fs, os::unix::fs::symlink};

use matrix_mls::{decrypt_attachment_file, encrypt_attachment_file};
use matrix_mls_kit::{Refused as _, Result};

use super::says;

/// Everything that is written there fails, for want of space.
const FULL: &str = "/dev/full";

#[tokio::test]
async fn a_file_has_no_space() -> Result {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    fs::write(path("picture"), vec![7; 300_000])?;
    symlink(FULL, path("sealed.part"))?;
    let error = encrypt_attachment_file(path("picture"), path("sealed"), None).await.refused()?;
    says(&error, "file_full", "sealed.part: ");
    assert!(error.details().retryable);
    // What was in the way is gone, and with it the full disk.
    let key = encrypt_attachment_file(path("picture"), path("sealed"), None).await?;
    fs::write(path("opened"), "kept")?;
    symlink(FULL, path("opened.part"))?;
    let opened = decrypt_attachment_file(path("sealed"), path("opened"), key.clone(), None).await;
    says(&opened.refused()?, "file_full", "opened.part: ");
    assert_eq!(fs::read(path("opened"))?, b"kept");
    decrypt_attachment_file(path("sealed"), path("opened"), key, None).await?;
    assert_eq!(fs::read(path("opened"))?, vec![7; 300_000]);
    Ok(())
}
