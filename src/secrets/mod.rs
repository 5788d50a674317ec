//! Secret storage: the private keys of this user's identity and the backup's key, in the account
//! data, sealed with the recovery key that a person writes down (Matrix spec, "Secrets").
//!
//! Whoever types the recovery key on a new phone gets both at once: the identity's keys, which sign
//! the phone, and the backup's key, which brings the history. The form is that of other clients,
//! which read what this one writes and the other way round.
//!
//! Nothing that the homeserver hands out is believed before the recovery key has opened it, and no
//! private key is kept unless its public key is published for this user.
//!
//! | to … | see |
//! |---|---|
//! | know the form of what is stored | `format` |
//! | know what is being done, and how it stands | `record` |
//! | read what there is | `reading` |
//! | recover | `recover` |
//! | store | `write` |
//! | hand them to another device that was verified | `handover` |

mod error;
mod format;
mod handover;
mod reading;
mod record;
mod recover;
#[cfg(test)]
mod vectors;
mod write;

pub(crate) use self::{
    error::SecretsError,
    handover::{HandoverContent, offer, receive, take_early, withdraw},
    reading::{answered, begin, go_on, refused},
    record::{Task, state},
    write::written,
};
