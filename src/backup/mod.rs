//! Key backup: epoch exports on the homeserver, sealed with a key that only the user has (MSC4038).
//!
//! This folder owns what is known of the backup, which epochs are in it, and bringing them back; the
//! key and the sealed form are in `sessions`. It promises that no key is used before it was proved,
//! that an epoch counts as backed up only once the homeserver has said so, and that what comes back is
//! checked one by one: what is wrong is counted and left out, the rest is kept. Of the group it knows
//! which epochs there are, and no more.
//!
//! | to … | see |
//! |---|---|
//! | know how the backup stands | `record` |
//! | prove a key | `proof` |
//! | ask which backup there is | `lookup` |
//! | create, enable, delete; notice another version | `version` |
//! | upload | `upload`, over `backlog` and `saved` |
//! | restore | `restore`, which keeps `restores` |
//! | take a refusal of the homeserver | `refusal` |

mod backlog;
mod error;
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
    lookup::look,
    record::{Mode, recovery_key, state},
    refusal::{Verdict, refused},
    restore::{cancel_restore, fetched, restore, step},
    restores::{Restore, Scope, under_way},
    saved::forget_epoch,
    upload::{counts, plan, uploaded},
    version::{create, created, delete, deleted, disable, enable, looked},
};
