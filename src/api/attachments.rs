//! Encrypted files, as an app sends and opens them. Thin: `crate::attachments` does the work.

use std::{
    fmt, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{error::MlsError, slot::blocking};
use crate::{attachments, identity::Crypto};

/// The key of one encrypted file, and what the file has to hash to.
///
/// It goes into the content of the message that sends the file, and nowhere else: whoever has it
/// reads the file.
#[derive(uniffi::Object)]
pub struct AttachmentKey {
    key: attachments::AttachmentKey,
}

/// Shows nothing of the key.
impl fmt::Debug for AttachmentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(formatter)
    }
}

#[uniffi::export]
impl AttachmentKey {
    /// Reads the key from the `file` of a message's content, which is an `EncryptedFile` of the
    /// Matrix specification, in JSON.
    ///
    /// Fails with `Rejected` (`"bad_encrypted_file"`) if it is none, and with `Unsupported`
    /// (`"unknown_encryption"`) if the file is encrypted in another way than version 2.
    #[uniffi::constructor]
    pub fn parse(encrypted_file: String) -> Result<Arc<Self>, MlsError> {
        let encrypted_file = zeroize::Zeroizing::new(encrypted_file);
        Ok(Arc::new(Self { key: attachments::AttachmentKey::parse(&encrypted_file)? }))
    }

    /// The `EncryptedFile` in JSON, for the `file` of a message's content. `url` is where the
    /// encrypted file was uploaded, such as `mxc://example.org/abc`.
    pub fn encrypted_file(&self, url: String) -> Result<String, MlsError> {
        Ok(self.key.to_json(url)?)
    }
}

/// An encrypted file in memory.
#[derive(uniffi::Record)]
pub struct EncryptedAttachment {
    /// The bytes to upload, as `application/octet-stream`.
    pub bytes: Vec<u8>,
    /// What opens them.
    pub key: Arc<AttachmentKey>,
}

/// Hears how far a file is.
#[uniffi::export(with_foreign)]
pub trait AttachmentProgress: Send + Sync {
    /// So many bytes of so many are done. Called on a thread of the library's, about once in 256 kB.
    /// What it throws is logged, and ends nothing.
    fn on_progress(&self, done: u64, total: u64);
}

/// Encrypts a file that is small enough for memory.
#[uniffi::export]
pub fn encrypt_attachment(mut bytes: Vec<u8>) -> Result<EncryptedAttachment, MlsError> {
    let key = attachments::seal(&Crypto::default(), &mut bytes)?;
    Ok(EncryptedAttachment { bytes, key: Arc::new(AttachmentKey { key }) })
}

/// Decrypts a downloaded file that is small enough for memory.
///
/// Fails with `Rejected` (`"attachment_changed"`) if it is not the file that was sent.
#[uniffi::export]
pub fn decrypt_attachment(bytes: Vec<u8>, key: Arc<AttachmentKey>) -> Result<Vec<u8>, MlsError> {
    Ok(attachments::open(&key.key, bytes)?)
}

/// Encrypts a file of any size into another file, to be uploaded as `application/octet-stream`.
///
/// The encrypted file is at `target` when the call has succeeded, and takes the place of what was
/// there. Until then there is `target` with `.part` behind it. A call that is cancelled leaves
/// neither. Fails with `StoreIo` (`"file_io"`), or `StoreFull` (`"file_full"`) if the disk is full.
#[uniffi::export(async_runtime = "tokio")]
pub async fn encrypt_attachment_file(
    source: String,
    target: String,
    progress: Option<Arc<dyn AttachmentProgress>>,
) -> Result<Arc<AttachmentKey>, MlsError> {
    let wanted = Wanted::default();
    let flag = wanted.flag();
    blocking(move || {
        let (source, target) = (Path::new(&source), Path::new(&target));
        let go_on = going_on(source, progress, flag);
        let key = attachments::seal_file(&Crypto::default(), source, target, go_on)?;
        Ok(Arc::new(AttachmentKey { key }))
    })
    .await
}

/// Decrypts a downloaded file of any size into another file.
///
/// The plaintext is at `target` only if the file is the one that was sent. Everything else is as
/// with `encrypt_attachment_file`. Fails with `Rejected` (`"attachment_changed"`) as well.
#[uniffi::export(async_runtime = "tokio")]
pub async fn decrypt_attachment_file(
    source: String,
    target: String,
    key: Arc<AttachmentKey>,
    progress: Option<Arc<dyn AttachmentProgress>>,
) -> Result<(), MlsError> {
    let wanted = Wanted::default();
    let flag = wanted.flag();
    blocking(move || {
        let (source, target) = (Path::new(&source), Path::new(&target));
        let go_on = going_on(source, progress, flag);
        Ok(attachments::open_file(&key.key, source, target, go_on)?)
    })
    .await
}

/// Whether anybody still waits for a file. Nobody does when the call was cancelled.
#[derive(Default)]
struct Wanted(Arc<AtomicBool>);

impl Wanted {
    fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Tells the app how far a file is, and the work whether to go on.
fn going_on(
    source: &Path,
    progress: Option<Arc<dyn AttachmentProgress>>,
    given_up: Arc<AtomicBool>,
) -> impl FnMut(u64) -> bool {
    let total = fs::metadata(source).map_or(0, |about| about.len());
    move |done| {
        if let Some(progress) = &progress {
            // The file may have grown since.
            let call = AssertUnwindSafe(|| progress.on_progress(done, total.max(done)));
            if catch_unwind(call).is_err() {
                tracing::error!("an observer of a file's progress failed");
            }
        }
        !given_up.load(Ordering::Relaxed)
    }
}
