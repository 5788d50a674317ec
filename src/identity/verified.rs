//! Which signatures of leaves and key packages were found good already.
//!
//! A key package is checked when it is claimed, again when a group is founded with it, and its leaf
//! once more when the group is joined; a device that joins anew meets the leaves of before. Each
//! signature is verified strictly and by itself, the first time. After that a hash of the key, the
//! text and the signature says that it was. Other signatures come once, and are not remembered: a
//! message's hash would only cost. What is remembered is lost with the process.

use std::{
    collections::HashSet,
    fmt, mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use openmls_traits::types::CryptoError;
use sha2::{Digest as _, Sha256};

/// How the signed texts begin that are met again (`SignContent`, RFC 9420 §5.1.2).
const LABELS: [&[u8]; 2] = [b"\x13MLS 1.0 LeafNodeTBS", b"\x15MLS 1.0 KeyPackageTBS"];

/// When so many are remembered, those of before are forgotten. Twice as many take 2.5 MB.
pub(crate) const MOST: usize = 16_384;

type Hash = [u8; 32];

/// The signatures that were verified.
#[derive(Default)]
pub(super) struct Verified(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashSet<Hash>,
    old: HashSet<Hash>,
}

impl fmt::Debug for Verified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Verified")
    }
}

impl Verified {
    /// Verifies a signature, unless that very one was found good before.
    pub(super) fn or_verify(
        &self,
        (text, key, signature): (&[u8], &[u8], &[u8]),
        verify: impl FnOnce() -> Result<(), CryptoError>,
    ) -> Result<(), CryptoError> {
        if !LABELS.iter().any(|label| text.starts_with(label)) {
            return verify();
        }
        #[cfg(feature = "test-hooks")]
        if crate::store::hooks::verifies_each_time() {
            return verify();
        }
        let hash = hash_of(text, key, signature);
        if self.lock().has(&hash) {
            return Ok(());
        }
        verify()?;
        self.lock().add(hash);
        Ok(())
    }

    /// Forgets all of them.
    pub(super) fn forget(&self) {
        *self.lock() = Generations::default();
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // A set of hashes holds together whoever has panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn has(&self, hash: &Hash) -> bool {
        self.young.contains(hash) || self.old.contains(hash)
    }

    fn add(&mut self, hash: Hash) {
        if self.young.len() >= MOST {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(hash);
    }
}

/// A hash of all three. The lengths in front keep one from running into the next.
fn hash_of(text: &[u8], key: &[u8], signature: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    for part in [key, signature, text] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LEAF: &[u8] = b"\x13MLS 1.0 LeafNodeTBS and a leaf";

    /// How often a signature is verified when it is met twice.
    fn times(verified: &Verified, text: &[u8], result: Result<(), CryptoError>) -> usize {
        let count = Cell::new(0);
        for _ in 0..2 {
            let found = verified.or_verify((text, b"key", b"signature"), || {
                count.set(count.get() + 1);
                result
            });
            assert_eq!(found, result);
        }
        count.get()
    }

    #[test]
    fn a_good_signature_of_a_leaf_is_verified_once() {
        let verified = Verified::default();
        assert_eq!(times(&verified, LEAF, Ok(())), 1);
        assert_eq!(times(&verified, LEAF, Ok(())), 0);
        verified.forget();
        assert_eq!(times(&verified, LEAF, Ok(())), 1);
    }

    #[test]
    fn a_bad_signature_is_bad_each_time() {
        let verified = Verified::default();
        assert_eq!(times(&verified, LEAF, Err(CryptoError::InvalidSignature)), 2);
        assert_eq!(times(&verified, LEAF, Ok(())), 1);
    }

    #[test]
    fn a_message_is_verified_each_time() {
        assert_eq!(times(&Verified::default(), b"\x18MLS 1.0 FramedContentTBS", Ok(())), 2);
    }

    #[test]
    fn no_part_runs_into_the_next() {
        let parts: [[&[u8]; 3]; 3] =
            [[b"ab", b"c", b"d"], [b"a", b"bc", b"d"], [b"a", b"b", b"cd"]];
        let hashes: HashSet<Hash> =
            parts.iter().map(|[text, key, signature]| hash_of(text, key, signature)).collect();
        assert_eq!(hashes.len(), 3);
    }

    #[test]
    fn memory_is_bounded() {
        let verified = Verified::default();
        for number in 0..3 * MOST {
            let text = [LEAF, &number.to_be_bytes()].concat();
            verified.or_verify((&text, b"key", b"signature"), || Ok(())).unwrap();
            let generations = verified.lock();
            assert!(generations.young.len() + generations.old.len() <= 2 * MOST);
        }
        // The latest are remembered.
        let text = [LEAF, &(3 * MOST - 1).to_be_bytes()].concat();
        assert_eq!(times(&verified, &text, Ok(())), 0);
    }
}
