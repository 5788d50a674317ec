//! What is known of one Matrix room: its settings, its state as far as it matters, its members,
//! and how this device stands to its group.
//!
//! A [`Room`] is loaded once for an event, changed in memory, and saved once ([`edit`]). How this
//! device stands to the group is one enum with named transitions ([`Standing`]). Members have rows
//! of their own (`membership`), how good that list is has one (`member_list`), and so has the list of rooms whose waiting events deserve another
//! try (`woken`).

mod followed;
pub(crate) mod member_list;
pub(crate) mod membership;
mod record;
mod rejoin;
mod rows;
mod settings;
mod standing;
mod stored;
mod woken;

pub(crate) use self::{
    followed::{Followed, is_followed, set_followed},
    member_list::{Doubt, Need, Question},
    membership::Membership,
    record::Room,
    rejoin::{Rejoin, RejoinReason, Search, Strangers},
    rows::{all, edit, find, load},
    settings::{Retention, Settings},
    standing::Standing,
    woken::{take_woken, wake, woken},
};
