//! What is known of one Matrix room: its settings, its state as far as it matters, its members,
//! and how this device stands to its group.
//!
//! A [`Room`] is loaded once for an event, changed in memory, and saved once ([`edit`]). How this
//! device stands to the group is one enum with named transitions ([`Standing`]). Members have rows
//! of their own (`membership`), and so have how well they are known (`member_list`), the rooms
//! whose waiting events deserve another try (`woken`), and adds that others have undone (`undone`).
//! Which of its groups a room goes on in stands in `restarts`.

mod followed;
mod hears;
pub(crate) mod member_list;
pub(crate) mod membership;
mod outside;
mod own_leaf;
mod power;
mod record;
mod rejoin;
mod restarts;
mod rows;
mod settings;
mod standing;
mod stored;
pub(crate) mod undone;
mod upgrade;
mod woken;

pub(crate) use self::{
    followed::{Followed, is_followed, set_followed},
    hears::hears,
    member_list::{Doubt, Need, Question},
    membership::Membership,
    outside::Outside,
    own_leaf::{LeafOrigin, OwnLeaf},
    record::Room,
    rejoin::{Rejoin, RejoinReason, Search, Strangers},
    restarts::{OwnRestart, Restart},
    rows::{all, count, edit, find, load, newest},
    settings::{Retention, Settings},
    standing::Standing,
    upgrade::{Creation, Upgrade},
    woken::{take_woken, wake, woken},
};
