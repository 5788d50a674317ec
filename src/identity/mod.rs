//! This device: its signature key, its MLS credential, what it publishes, and its key packages.
//!
//! The signature key is made once, with the store, and never leaves it. One key makes all of a
//! device's signatures in MLS. Others know that the credential is the device's because it stands in
//! `device_keys` and has signed them, or because the Ed25519 key of the Olm machine beside it has
//! signed a binding (`binding`).

mod binding;
mod crypto;
mod device;
mod device_keys;
mod key_packages;
mod own_keys;
mod provider;
#[cfg(test)]
mod tests;
mod upload;
mod usable;
mod validate;
mod verified;

pub(crate) use self::{
    binding::{LeafParts, OlmSignatures},
    crypto::{Crypto, SUITE},
    device::{
        Identity, IdentityError, OTHER_KEYS, Publishing, has_sealed_marks, note_sealed_marks,
    },
    key_packages::{forget_used_key_packages, make_founders_package, replace_key_packages},
    own_keys::{
        OwnKeys, forget_other_keys, must_ask_for_own_keys, note_counted_keys, note_own_keys,
        own_keys, own_keys_request,
    },
    provider::Provider,
    upload::{
        UploadPlan, are_of_lost_store, can_be_recognised, finds_lost_store, has_old_packages,
        has_published_keys, mark_uploaded, note_counts, plan_upload, take_back,
    },
    validate::{BadKeyPackage, encryption_key, validate_key_package},
    verified::MOST as MOST_REMEMBERED,
};
