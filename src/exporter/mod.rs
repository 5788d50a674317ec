//! Secrets of an epoch for what an app does beside messages, such as calls (RFC 9420 §8.5).
//!
//! Every device of an epoch exports the same bytes for the same label, context and length, and
//! nobody else does. A device that was removed is in no later epoch, so it has none of theirs. What
//! is exported depends on the epoch, so an app has to know which one it was, and when there is
//! another: `watch` tells it.
//!
//! Labels of this library's own are refused (`label`). An epoch that came from a backup, a file or
//! a member holds nothing that could be exported, and neither does one whose state was dropped.

mod error;
mod label;
mod limits;
mod secret;
mod watch;

pub(crate) use self::{
    error::ExportError,
    secret::{Exported, Wanted, of_epoch, of_head},
    watch::tell_changed,
};
