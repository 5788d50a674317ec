//! Joining the group anew: what a device does that cannot go on by itself. It lost its state,
//! everybody else went on with a branch that it cannot follow, or its store is an older copy.
//!
//! One cure serves all: an **external join** (RFC 9420 §12.4.3.2) onto the best epoch that is known
//! from its public group state, looking for one in the room's history where none is. A Welcome does
//! as well. Devices that need it at the same moment would fork the group again, so each waits a
//! little first, longer with each time, and there is a limit for an hour: no member and no
//! homeserver can have a device join for ever.
//!
//! | to … | see |
//! |---|---|
//! | decide that a device has to rejoin, or need not any more | `need` |
//! | do the next step | `step` |
//! | find a group to join in the room's history | `search` |
//! | make the external commit | `external` |
//! | leave, or be removed | `leave` |

mod external;
mod leave;
mod need;
mod pace;
mod search;
mod step;

pub(crate) use self::{
    leave::{leave, removed, user_left},
    need::{
        ask, better_epoch_known, distrust_store, forgotten_message, head_changed, joined,
        joined_externally, left_out, mark_synced, require, rooms_to_see_to, started_anew, stop,
        tell_missed,
    },
    pace::{Occasion, put_off, waits_until},
    search::{has_found_nothing, search_refused, searched},
    step::{can_go_on_without, may_step_unasked, rest, step, tree_came},
};
