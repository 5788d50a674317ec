//! The keys of verifications under way: vodozemac's short authentication strings.
//!
//! They are in memory only. A verification that has begun ends with the app's process: the store
//! remembers it, and the other side is told at the next start (`table::lose`).
//!
//! A turn that fails leaves what it did here. So each step may be repeated, and then gives the
//! same.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use vodozemac::{
    Curve25519PublicKey,
    sas::{EstablishedSas, Mac, Sas},
};
use zeroize::Zeroizing;

/// What both sides of an exchange put into the keys that they derive.
pub(super) struct Parties<'a> {
    /// User and device of the side that has sent the start event.
    pub(super) starter: (&'a str, &'a str),
    pub(super) other: (&'a str, &'a str),
    pub(super) transaction: &'a str,
    /// Whether this device is the starter.
    pub(super) we_started: bool,
}

enum Secret {
    Fresh(Box<Sas>),
    Shared(Box<EstablishedSas>),
}

/// The keys of all verifications under way, by their ids.
#[derive(Default)]
pub(crate) struct Secrets(Mutex<HashMap<String, Secret>>);

impl Secrets {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Secret>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This device's public key for a verification, in unpadded base64. The first call makes it.
    pub(super) fn public_key(&self, flow: &str) -> String {
        let mut secrets = self.lock();
        let secret =
            secrets.entry(flow.to_owned()).or_insert_with(|| Secret::Fresh(Box::new(Sas::new())));
        match secret {
            Secret::Fresh(sas) => sas.public_key(),
            Secret::Shared(sas) => sas.our_public_key(),
        }
        .to_base64()
    }

    /// Whether the keys of a verification are here.
    pub(super) fn has(&self, flow: &str) -> bool {
        self.lock().contains_key(flow)
    }

    /// Takes in the other side's public key; tells whether it is one.
    pub(super) fn agree(&self, flow: &str, their_key: &str) -> bool {
        let Ok(their_key) = Curve25519PublicKey::from_base64(their_key) else { return false };
        let mut secrets = self.lock();
        let shared = match secrets.remove(flow) {
            // A key of small order makes a secret that everybody knows, and is refused.
            Some(Secret::Fresh(sas)) => match sas.diffie_hellman(their_key) {
                Ok(shared) => Box::new(shared),
                Err(_) => return false,
            },
            Some(Secret::Shared(shared)) if shared.their_public_key() == their_key => shared,
            Some(Secret::Shared(_)) | None => return false,
        };
        secrets.insert(flow.to_owned(), Secret::Shared(shared));
        true
    }

    fn with<T>(&self, flow: &str, work: impl FnOnce(&EstablishedSas) -> T) -> Option<T> {
        match self.lock().get(flow) {
            Some(Secret::Shared(sas)) => Some(work(sas)),
            Some(Secret::Fresh(_)) | None => None,
        }
    }

    /// What both users compare: seven numbers of emojis, and three decimals.
    pub(super) fn strings(
        &self,
        flow: &str,
        parties: &Parties<'_>,
    ) -> Option<([u8; 7], (u16, u16, u16))> {
        self.with(flow, |sas| {
            let (ours, theirs) = (sas.our_public_key(), sas.their_public_key());
            let (first, second) = if parties.we_started { (ours, theirs) } else { (theirs, ours) };
            let ((user, device), (other_user, other_device)) = (parties.starter, parties.other);
            let info = format!(
                "MATRIX_KEY_VERIFICATION_SAS|{user}|{device}|{}|{other_user}|{other_device}|{}|{}",
                first.to_base64(),
                second.to_base64(),
                parties.transaction
            );
            let bytes = sas.bytes(&info);
            (bytes.emoji_indices(), bytes.decimals())
        })
    }

    /// The MAC of a text, in unpadded base64 (`hkdf-hmac-sha256.v2`).
    pub(super) fn mac(&self, flow: &str, text: &str, info: &str) -> Option<String> {
        self.with(flow, |sas| sas.calculate_mac(text, info).to_base64())
    }

    /// Whether this is the MAC of a text.
    pub(super) fn is_mac(&self, flow: &str, text: &str, info: &str, mac: &str) -> bool {
        let Ok(mac) = Mac::from_base64(mac) else { return false };
        self.with(flow, |sas| sas.verify_mac(text, info, &mac).is_ok()).unwrap_or(false)
    }

    /// A key of this exchange for another purpose, which `info` names.
    pub(super) fn derive(
        &self,
        flow: &str,
        info: &str,
        length: usize,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let derived = self.with(flow, |sas| sas.bytes_raw(info, length).ok());
        derived.flatten().map(Zeroizing::new)
    }

    /// Forgets the keys of a verification.
    pub(super) fn forget(&self, flow: &str) {
        self.lock().remove(flow);
    }
}
