//! Other people's devices: whose device lists are tracked, what `/keys/query` said of them, and how
//! far a credential is trusted.
//!
//! A device may take part in groups if its published keys are consistent (see `verify`). A device
//! whose keys are not is kept with the reason, is reported, and is never offered to a group. The
//! first credential key that was seen for a device counts for good (`pins`): a later answer with
//! another key is a conflict, whatever the homeserver said in between.
//!
//! A device that publishes no credential may have one all the same: a binding in its leaves names
//! it (`bindings`). Until one was seen the device is silent (`silent`), and is asked for now and
//! then.
//!
//! A user may have a cross-signing identity (`user_identity`). Whether its owner's keys have signed
//! a device is part of what is known of it, and the machine's policy says what that means. So is
//! whether this device's user has verified the owner (`verification`); that is shown (`verdict`),
//! and decides what this device sends.
//!
//! This folder makes ruma's request values and reads the bodies of answers. It knows nothing of
//! queues and rooms.

mod asking;
mod bindings;
mod changes;
mod claim;
mod cross_signing;
mod own_devices;
mod own_identity;
mod pins;
mod policy;
mod published;
mod query;
mod record;
mod silent;
#[cfg(test)]
mod tests;
mod tracking;
mod user_identity;
mod verdict;
mod verification;
mod verify;

pub(crate) use self::{
    asking::{Due, due},
    bindings::{LeafBinding, note_bindings},
    changes::{changed_since, mark_changes},
    claim::{ClaimedPackage, claim_request, parse_claim_response},
    own_devices::{published_object, signed_object},
    own_identity::{
        PrivateKey, PrivateKeys, SignedObject, SigningError, keep_private_keys, private_keys,
        sign_device, sign_user,
    },
    policy::{set_policy, track},
    published::{published_request, take_in_published},
    query::{KeyQuery, handle_query_response, query_refused, query_request},
    record::{
        Device, DevicesError, binding_key, device, eligible_devices, is_consistent,
        is_owner_signed, is_silent, is_unheard_of, known_key, may_have_devices, note_unsigned,
    },
    silent::asked_in_vain,
    tracking::{
        is_list_current, is_list_known, mark_all_outdated, mark_outdated, note_device_lists,
        outdated, untrack,
    },
    user_identity::{Standing, UserIdentity, is_to_be_accepted, user_identity},
    verdict::{Verdict, verdict, verdict_by_first_key},
    verification::{
        accept_identity, adopt_own_identity, changed_among, confirm_own_identity,
        is_own_identity_confirmed, send_only_to_verified, sends_only_to_verified, verified,
        withdraw_verification,
    },
};
