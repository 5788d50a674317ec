//! Commits that arrive in the timeline: those of other devices, and this device's own coming back.
//!
//! `receive` decides what a commit's event is: this device's own (`own`), an announcement, a commit
//! to apply (`apply`, on the epoch that `base` finds), or a commit that this device cannot follow
//! (`unfollowed`). A commit that is not followed still names an epoch that could be joined; if that
//! comes before the head, this device has to join it.

mod apply;
mod base;
mod event;
mod own;
mod receive;
mod unfollowed;

pub(crate) use self::{
    event::{Processed, event_id},
    receive::receive,
};
