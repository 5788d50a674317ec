//! Key backup: epoch exports on the homeserver, sealed with a key that only the user has (MSC4038).
//!
//! This module owns the recovery key, the sealed form of sessions, what is known of the backup, which
//! epochs are in it, and bringing them back; and files and bundles, which hold the same sessions. It
//! promises that no key is used before it was proved, that an epoch counts as backed up only once the
//! homeserver has said so, and that what comes back is checked one by one: what is wrong is counted and
//! left out, the rest is kept. Of the group it knows which epochs there are, and no more.
//!
//! | to … | see |
//! |---|---|
//! | write and read recovery keys | `key` |
//! | seal a session, prove a key | `seal` |
//! | know what a session says | `session` |
//! | create, enable, delete; notice another version | `state` |
//! | upload | `upload` |
//! | restore | `restore` |
//! | move without a server | `file` |

mod file;
mod key;
mod restore;
mod seal;
mod session;
mod state;
#[cfg(test)]
mod tests;
mod upload;

pub(crate) use self::{
    file::{FileError, bundle, file_contents, import_file, open_bundle, seal_bundle, seal_file},
    key::{BackupKey, KeyError, ROUNDS},
    restore::{
        Restore, Scope, begin as restore, cancel as cancel_restore, fetched, step, under_way,
    },
    seal::{PassphraseInfo, SealedError},
    session::{Failures, SessionError, Taken, session_of_event},
    state::{
        Mode, State, Verdict, counts, create, created, delete, deleted, disable, enable, look,
        looked, recovery_key, refused, state,
    },
    upload::{Batch, forget, note_epoch, plan, readable, uploaded},
};
