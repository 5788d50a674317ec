//! Key backup: epoch exports on the homeserver, sealed with a key that only the user has (MSC4038).
//!
//! This folder owns the state of the backup, the list of the epochs in it, and restores. The key
//! and the sealed form are in `sessions`. The folder promises that no key is used before it was
//! proved, that an epoch counts as backed up only once the homeserver has confirmed it, and that
//! every restored session is checked: a bad session is counted and left out, the others are kept.
//! Of the group it knows only which epochs there are.
//!
//! | to … | see |
//! |---|---|
//! | know the state of the backup | `record` |
//! | prove a key | `proof` |
//! | ask which version there is | `lookup` |
//! | create, enable, delete; notice another version | `version` |
//! | upload | `upload`, over `backlog` and `saved` |
//! | restore | `restore`, which keeps `restores` |
//! | take in an epoch from elsewhere | `import` |
//! | handle a refusal of the homeserver | `refusal` |

mod backlog;
mod error;
mod import;
mod lookup;
mod proof;
mod record;
mod refusal;
mod restore;
mod restores;
mod saved;
mod upload;
mod version;

pub(crate) use self::{
    backlog::note_epoch,
    error::BackupError,
    import::keep_session,
    lookup::request_version,
    record::{ActiveKey, MEGOLM_SECRET, Mode, OWN_SECRET, recovery_key, state},
    refusal::{Verdict, refused},
    restore::{cancel_restore, restore_next_portion, sessions_fetched, start_restore},
    restores::{Restore, Scope, under_way},
    saved::forget_epoch,
    upload::{Counts, counts, plan_upload, uploaded},
    version::{
        create, delete, disable, enable, enable_one_of, version_created, version_deleted,
        version_found,
    },
};
