//! Who is in the Matrix room, where that is not known or a sync leaves it in doubt.
//!
//! The rule: nobody is removed from the group, and nothing is sealed, unless the full list of
//! members has been seen and nothing has put it in doubt since (`room::member_list`). So before a
//! room is sent to, this asks. What puts a list in doubt:
//!
//! - a timeline that leaves events out;
//! - a sync that does not go on where the last one ended, or that does not follow the room;
//! - state from before a timeline that differs from what is known: where the room's history has
//!   branches, as after two homeservers did not hear each other, it is the state of one branch, and
//!   can have somebody in the room who was removed on the other;
//! - a number of joined members that differs from the list's.
//!
//! `observe` looks at what a sync brings, `question` asks the homeserver.

mod observe;
mod question;
mod told;

pub(crate) use self::{
    observe::{doubt_all, doubt_list, doubt_told, note_change, note_state, note_sync},
    question::{
        answered, ask, ask_for_wanted, own_user_joined, page_came, refused, set_by_app, want,
    },
};
