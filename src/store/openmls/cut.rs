//! Where a large value is cut into pieces.
//!
//! The bytes around a place decide whether it is a cut, so a change moves only the cuts next to it:
//! two values that differ in a few spots have nearly all of their pieces in common. The places
//! depend on a secret too ([`Cuts::new`]). Without the secret, the lengths of the pieces would tell
//! somebody who has the file and guesses a value whether the guess is right; a room's tree is no
//! secret. This file only cuts. It owns nothing and stores nothing.
//!
//! The numbers here decide how much two epochs share, so they are treated as part of the file's
//! format. A store written with other numbers still opens, because a value is put together from the
//! pieces that it names, but it shares nothing with what is written next. docs/decisions/006 has
//! the measurements.

/// The least length of a piece, except for the last.
const MIN: usize = 1024;

/// Most pieces are a little longer than this. A sealed row of that length fills SQLite's pages; one
/// of half the length leaves a third of a page empty.
const USUAL: usize = 4 * 1024;

/// The greatest length of a piece.
const MAX: usize = 16 * 1024;

/// One place in 2^14 is a cut before the usual length, one in 2^10 after it, so that lengths gather
/// there. A narrower spread would need many pieces after a change until cuts fall where they fell
/// before.
const BEFORE: u64 = u64::MAX << (64 - 14);
const AFTER: u64 = u64::MAX << (64 - 10);

/// Two blank nodes of a ratchet tree, `{"node": null}`, packed. Their end is always a cut: trees
/// hold long runs of blank nodes, which become short pieces of one content.
const BLANKS: &[u8] = b"\xa1\xc0\xf6\xa1\xc0\xf6";

/// Null. It adds nothing to the hash, so every place within a run of 64 nulls is a cut. The
/// secret tree of an epoch in which nobody has sent is nearly all nulls.
const NULL: u8 = 0xf6;

/// The rule by which one store cuts.
pub(super) struct Cuts {
    /// What each byte adds to the rolling hash. A byte leaves the hash 64 places on.
    gear: [u64; 256],
}

impl Cuts {
    /// The cuts that follow from `secret`.
    pub(super) fn new(secret: u64) -> Self {
        // SplitMix64: good enough as randomness for cuts, and the same for ever.
        let mut gear = [0; 256];
        let mut state = secret;
        for (byte, entry) in (0..=u8::MAX).zip(&mut gear) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *entry = if byte == NULL { 0 } else { mixed ^ (mixed >> 31) };
        }
        Self { gear }
    }

    /// Cuts `bytes` into pieces. The pieces one after the other are `bytes` again.
    pub(super) fn cut<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let (piece, behind) = rest.split_at_checked(self.first(rest))?;
            rest = behind;
            // An empty piece means that nothing is left.
            (!piece.is_empty()).then_some(piece)
        })
    }

    /// The length of the first piece.
    fn first(&self, bytes: &[u8]) -> usize {
        let mut hash = 0u64;
        for (at, byte) in bytes.iter().enumerate().take(MAX - 1).skip(MIN - 1) {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(*byte)]);
            let mask = if at < USUAL { BEFORE } else { AFTER };
            let after_blanks =
                || *byte == NULL && bytes.get(..=at).is_some_and(|piece| piece.ends_with(BLANKS));
            if hash & mask == 0 || after_blanks() {
                return at + 1;
            }
        }
        bytes.len().min(MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Bytes without a pattern, the same each time.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn cut(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        let pieces: Vec<_> = Cuts::new(571).cut(bytes).collect();
        pieces.into_iter()
    }

    fn lengths(bytes: &[u8]) -> Vec<usize> {
        cut(bytes).map(<[u8]>::len).collect()
    }

    #[test]
    fn pieces_are_the_whole_and_keep_to_their_bounds() {
        for len in [0, 1, MIN - 1, MIN, MIN + 1, MAX, MAX + 1, 300_000] {
            for bytes in [noise(len), vec![7; len], vec![0xf6; len]] {
                assert_eq!(cut(&bytes).flatten().copied().collect::<Vec<_>>(), bytes);
                let lengths = lengths(&bytes);
                let all_but_last = lengths.split_last().map_or(&[][..], |(_, before)| before);
                assert!(all_but_last.iter().all(|len| (MIN..=MAX).contains(len)));
                assert!(lengths.iter().all(|len| (1..=MAX).contains(len)));
            }
        }
    }

    /// Epochs written by earlier versions share with new ones only while this holds.
    #[test]
    fn the_cuts_are_those_of_the_format() {
        let format = [5487, 4404, 4816, 5376, 6099, 4150, 6611, 2452, 6637, 4301, 4408, 5259];
        assert_eq!(lengths(&noise(60_000)), format);
    }

    #[test]
    fn lengths_gather_around_the_usual_one() {
        let lengths = lengths(&noise(4_000_000));
        let near = lengths.iter().filter(|len| (USUAL..2 * USUAL).contains(*len)).count();
        assert!(near * 10 > lengths.len() * 7, "{near} of {}", lengths.len());
    }

    #[test]
    fn runs_of_blank_nodes_and_of_nulls_are_pieces_of_one_content() {
        for (unit, most) in [(&BLANKS[..3], MIN + 3), (&[NULL][..], MIN)] {
            let mut bytes = noise(5_000);
            bytes.extend(unit.repeat(100_000 / unit.len()));
            let pieces: Vec<_> = cut(&bytes).collect();
            assert!(pieces.len() > 80, "{}", pieces.len());
            // Not those that what is before the run is in, and not what is left at its end.
            let within = &pieces[6..pieces.len() - 1];
            assert!(within.iter().all(|piece| *piece == within[0]));
            assert!(within[0].len() <= most, "{}", within[0].len());
        }
    }

    #[test]
    fn another_secret_cuts_elsewhere() {
        let bytes = noise(100_000);
        let ends = |secret| {
            let mut end = 0;
            let pieces = Cuts::new(secret);
            let ends = pieces.cut(&bytes).map(|piece| {
                end += piece.len();
                end
            });
            ends.collect::<HashSet<_>>()
        };
        let (one, other) = (ends(1), ends(2));
        assert!(one.intersection(&other).count() < 4, "{one:?} {other:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

        /// However long what is put in or taken out, no more than a few pieces are new.
        #[test]
        fn a_change_makes_few_new_pieces(
            at in 0..200_000usize, taken in 0..3_000usize, put in 0..3_000usize,
        ) {
            let before = noise(200_000);
            let end = (at + taken).min(before.len());
            let new = noise(300_000);
            let after = [&before[..at], &new[300_000 - put..], &before[end..]].concat();
            let known: HashSet<_> = cut(&before).collect();
            let new = cut(&after).filter(|piece| !known.contains(piece)).count();
            prop_assert!(new <= 12, "{new} new pieces");
        }
    }
}
