//! This user's own cross-signing identity, for an app without an Olm machine.
//!
//! The private keys and the rules of their use are in `devices::own_identity`; this folder makes an
//! identity, turns what it signs into requests, takes in the answers, and tells how the identity
//! stands. Beside Olm it does nothing: the identity is the Olm machine's.
//!
//! | to … | see |
//! |---|---|
//! | make an identity, or make it anew | `setup`, over `record` |
//! | sign a device or a user | `signatures` |
//! | know what is there and what is missing | `state` |
//! | notice what the homeserver changes about this user's devices | `guard` |
//! | tell of whom something else is known now | `trust` |

mod error;
mod guard;
mod record;
mod setup;
mod signatures;
mod state;
mod trust;

pub(crate) use self::{
    error::SigningError,
    guard::look_at_own_devices,
    setup::{authorize, begin, cancel, challenged, go_on, identity_refused, identity_uploaded},
    signatures::{follow, must_be_alone, plan, refused, sign_own_device, sign_user, uploaded},
    state::{state, tell_state},
    trust::tell_trust_changed,
};
