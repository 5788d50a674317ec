//! This device: its signature key, its MLS credential, what it publishes, and its key packages.
//!
//! The signature key is made once, with the store, and never leaves it. One key makes all of a
//! device's signatures in MLS. It also signs `device_keys`, by which others know that the
//! credential is the device's.

mod crypto;
mod device;
mod device_keys;
mod key_packages;
mod provider;
#[cfg(test)]
mod tests;
mod upload;
mod validate;

pub(crate) use self::{
    crypto::Crypto,
    device::{Identity, IdentityError, Publishing},
    key_packages::forget_used_key_packages,
    provider::Provider,
    upload::{UploadPlan, has_old_packages, mark_uploaded, note_counts, plan_upload, take_back},
    validate::validate_key_package,
};
