//! Commits of this device's own: from who is in the group to who should be.
//!
//! | step | file |
//! |---|---|
//! | decide what is to be done next | `plan`, with `difference` |
//! | wait for this device's user, where an identity has changed | `trusted` |
//! | renew this device's own keys | `renewal` |
//! | ask for device lists | `key_queries` |
//! | claim key packages | `key_packages` |
//! | ask for devices that may have no credential | `silent` |
//! | make a group of one | `create`; of all who are to be in it, `gathering` and `founding` |
//! | start a room anew with another group | `restart` |
//! | make a commit | `stage`; what a key package may lack in this very group, `in_tree` |
//! | bring it to the homeserver, and the Welcomes after it | `publish`, `welcomes`; `staged` keeps what belongs to it |
//! | take the homeserver's answer | `outcome` |
//!
//! A commit is made, stored and queued in one turn. It is in force only when the homeserver has
//! accepted its event, in a later turn.

mod create;
mod difference;
mod founding;
mod gathering;
mod in_tree;
mod key_packages;
mod key_queries;
pub(crate) mod outcome;
mod plan;
mod publish;
mod renewal;
pub(crate) mod restart;
mod silent;
mod stage;
mod staged;
mod trusted;
mod welcomes;

pub(crate) use self::{
    create::create_group,
    founding::{Founders, FoundingStep, found_alone, found_next, stage_founding},
    gathering::founding_rooms,
    key_packages::{claim_refused, claimed, forget_candidates},
    key_queries::{ask_for_outdated, queue_key_queries},
    plan::{NextStep, block_commits, blocked_until, next_step},
    publish::{BaseName, CommitDraft, is_media_url, part_uploaded, publish},
    renewal::entered,
    silent::{silent_answered, silent_refused},
    staged::{commit_hash_of_staged, staged_requests},
    trusted::may_be_given,
};
