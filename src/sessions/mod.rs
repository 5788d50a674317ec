//! Epochs as they leave a device and come back: the sessions of MSC4038, the key that seals them,
//! and the files and bundles that hold them.
//!
//! A session is one epoch, or one chunk of leaves that many epochs share. The key backup seals
//! sessions one by one, a file seals them with a passphrase, and a member shares them as a bundle.
//! Whatever comes back is checked session by session. This folder knows nothing of rooms' state, of
//! requests or of the backup's versions.

mod bundle;
mod file;
mod key;
pub(crate) mod seal;
mod session;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub(crate) use self::{
    bundle::{BundleError, open_bundle, seal_bundle},
    file::{FileError, import_file, seal_file},
    key::{BackupKey, KeyError, ROUNDS},
    seal::{AuthData, PassphraseInfo, SealedError, SessionData},
    session::{
        EventSessionError, FailureCounts, Kept, Session, SessionArray, SessionError, SessionJson,
        Sessions, epoch_session_id, is_leaves_session_id, is_mls_session_id, leaves_session_id,
        session_id_of_event, session_id_suffix,
    },
};
