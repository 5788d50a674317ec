//! Encrypted files through the public API: what an app sends, and what it is sent.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use matrix_mls::{
    AttachmentKey, AttachmentProgress, EncryptedAttachment, MlsError, decrypt_attachment,
    decrypt_attachment_file, encrypt_attachment, encrypt_attachment_file,
};
use matrix_mls_kit::{Homeserver, OrMissing as _, Result, together::pair};
use serde_json::{Value, json};

const URL: &str = "mxc://example.org/abc";

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_string_lossy().into_owned()
}

/// Notes how far a file was each time.
#[derive(Default)]
struct Steps(Mutex<Vec<(u64, u64)>>);

impl AttachmentProgress for Steps {
    fn on_progress(&self, done: u64, total: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((done, total));
        assert!(done < total, "as an exception in the app's code");
    }
}

/// Holds a file up until it is let go.
#[derive(Default)]
struct Held(AtomicBool);

impl AttachmentProgress for Held {
    fn on_progress(&self, done: u64, _: u64) {
        while done > 0 && !self.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Alice uploads a picture and sends a message about it; Bob downloads it.
#[tokio::test]
async fn a_file_goes_from_one_person_to_another() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let picture: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let EncryptedAttachment { bytes, key } = encrypt_attachment(picture.clone())?;
    assert_ne!(bytes, picture);
    let url = alice.upload_media(bytes).await?;
    let file: Value = serde_json::from_str(&key.encrypted_file(url)?)?;
    let content = json!({ "msgtype": "m.image", "body": "a picture.png", "file": file });
    alice.send(&room, "m.room.message", content).await?;
    bob.settle().await?;
    let read = bob.read(&room).await?;
    let message = read.iter().rev().find_map(|event| event.message.as_ref().ok());
    let content: Value = serde_json::from_str(&message.or_missing("message of Alice's")?.content)?;
    let key = AttachmentKey::parse(content["file"].to_string())?;
    let url = content["file"]["url"].as_str().or_missing("URL in the content")?;
    let downloaded = bob.download_media(url).await?;
    assert_eq!(decrypt_attachment(downloaded.clone(), key.clone())?, picture);
    // The homeserver changes a byte.
    let mut changed = downloaded;
    *changed.last_mut().or_missing("last byte")? ^= 1;
    let error = decrypt_attachment(changed, key).err().or_missing("error")?;
    assert_eq!((error.code(), error.retryable()), ("attachment_changed", false), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_large_file_goes_from_disk_to_disk_and_says_how_far_it_is() -> Result {
    let directory = tempfile::tempdir()?;
    let [plain, sealed, opened] =
        ["plain", "sealed", "opened"].map(|name| path(directory.path(), name));
    let size = 3_000_000;
    fs::write(&plain, vec![0x5A; size])?;
    let steps = Arc::new(Steps::default());
    let key = encrypt_attachment_file(plain.clone(), sealed.clone(), Some(steps.clone())).await?;
    let heard = steps.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(heard.len() > 10 && heard.is_sorted(), "{heard:?}");
    assert_eq!(heard.last(), Some(&(size as u64, size as u64)));
    // As it comes out of a message.
    let key = AttachmentKey::parse(key.encrypted_file(URL.to_owned())?)?;
    decrypt_attachment_file(sealed.clone(), opened.clone(), key.clone(), None).await?;
    assert!(fs::read(&opened)? == fs::read(&plain)?);
    fs::write(&sealed, vec![0; size])?;
    fs::remove_file(&opened)?;
    let changed = decrypt_attachment_file(sealed, opened.clone(), key.clone(), None).await;
    assert_eq!(changed.map_err(|error| error.code().to_owned()), Err("attachment_changed".into()));
    let missing = path(directory.path(), "missing");
    let error = decrypt_attachment_file(missing, opened, key, None).await.err();
    assert!(matches!(&error, Some(MlsError::StoreIo { details }) if details.code == "file_io"));
    let mut names = fs::read_dir(directory.path())?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    assert_eq!(names, ["plain", "sealed"]);
    Ok(())
}

/// The user goes back to the timeline before the file is done.
#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing_behind() -> Result {
    let directory = tempfile::tempdir()?;
    let [plain, sealed] = ["plain", "sealed"].map(|name| path(directory.path(), name));
    fs::write(&plain, vec![1; 3_000_000])?;
    let held = Arc::new(Held::default());
    let call = tokio::spawn(encrypt_attachment_file(plain, sealed, Some(held.clone())));
    let part = directory.path().join("sealed.part");
    while !fs::metadata(&part).is_ok_and(|about| about.len() > 0) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    call.abort();
    assert!(call.await.is_err_and(|error| error.is_cancelled()));
    held.0.store(true, Ordering::SeqCst);
    for _ in 0..1_000 {
        if !part.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left: Vec<_> = fs::read_dir(directory.path())?.collect::<std::result::Result<_, _>>()?;
    assert_eq!(left.len(), 1, "{left:?}");
    Ok(())
}

#[test]
fn what_others_write_in_a_message_is_checked() {
    for (text, code) in [
        ("", "bad_encrypted_file"),
        ("{}", "bad_encrypted_file"),
        (
            r#"{"url":"x","key":{"kty":"oct","key_ops":[],"alg":"A256CTR","k":"AAAA","ext":true},
               "iv":"AAAA","hashes":{"sha256":"AAAA"},"v":"v2"}"#,
            "bad_encrypted_file",
        ),
        (
            r#"{"url":"x","key":{"kty":"oct","key_ops":[],"alg":"A256CTR","k":"AAAA","ext":true},
               "iv":"AAAA","hashes":{"sha256":"AAAA"},"v":"v9"}"#,
            "unknown_encryption",
        ),
    ] {
        let error = AttachmentKey::parse(text.to_owned()).err();
        assert_eq!(error.as_ref().map(MlsError::code), Some(code), "{text}");
    }
}
