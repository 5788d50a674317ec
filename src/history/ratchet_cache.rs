//! The ratchets that were used last, so that reading further in an epoch does not start at the root
//! of its secret tree again. The cache is in memory only: dropping it costs time and nothing else.

use std::collections::{HashMap, hash_map::Entry};

use openmls_traits::crypto::OpenMlsCrypto;

use super::{
    export::EpochKeys,
    secret_tree::{Ratchet, RatchetError},
};

/// How many ratchets are remembered over all epochs. The one that was unused for longest goes
/// first. A miss costs the way down the tree, some 20 µs. A ratchet takes a few hundred bytes, and
/// up to 20 KB if its sender used every generation there is, so a hostile member can fill some 5 MB
/// at most.
pub const MAX_CACHED_RATCHETS: usize = 256;

/// Application ratchets by epoch and leaf, of any number of epochs and groups.
#[derive(Default)]
pub struct RatchetCache {
    ratchets: HashMap<([u8; 32], u32), Cached>,
    clock: u64,
}

struct Cached {
    ratchet: Ratchet,
    last_used: u64,
}

impl RatchetCache {
    /// The ratchet of a leaf, at the generation that was used last.
    pub(super) fn ratchet(
        &mut self,
        keys: &EpochKeys,
        crypto: &impl OpenMlsCrypto,
        leaf: u32,
    ) -> Result<&mut Ratchet, RatchetError> {
        let place = (*keys.fingerprint(), leaf);
        if self.ratchets.len() >= MAX_CACHED_RATCHETS && !self.ratchets.contains_key(&place) {
            self.drop_oldest();
        }
        self.clock += 1;
        let cached = match self.ratchets.entry(place) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Cached {
                ratchet: Ratchet::application(keys, crypto, leaf)?,
                last_used: 0,
            }),
        };
        cached.last_used = self.clock;
        Ok(&mut cached.ratchet)
    }

    fn drop_oldest(&mut self) {
        let oldest = self.ratchets.iter().min_by_key(|(_, c)| c.last_used);
        if let Some(place) = oldest.map(|(place, _)| *place) {
            self.ratchets.remove(&place);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ratchets.len()
    }
}
