//! Where a large value is cut into pieces.
//!
//! Cuts are at places that the bytes around them choose, so a change moves only the cuts next to it:
//! two values that differ in a few spots have nearly all of their pieces in common. [`cut`] makes no
//! more of a value than this; it owns nothing and stores nothing.
//!
//! The numbers here decide how much two epochs share. A store written with others still opens, since
//! a value is put together from the pieces it names, but shares nothing with what is written next. So
//! they are treated as part of the file's format. How they were measured is told in
//! docs/decisions/006.

/// No piece but the last is shorter.
const MIN: usize = 2 * 1024;

/// What most pieces are close to. A sealed row of this length and a little more fills SQLite's pages;
/// one of half the length leaves a third of each page empty.
const USUAL: usize = 4 * 1024;

/// No piece is longer.
const MAX: usize = 16 * 1024;

/// One place in 2^15 is a cut before the usual length, one in 2^9 after it: lengths gather there.
const BEFORE: u64 = u64::MAX << (64 - 15);
const AFTER: u64 = u64::MAX << (64 - 9);

/// What each byte adds to the rolling hash, which forgets a byte 64 places on.
const GEAR: [u64; 256] = gear();

/// The first seed that cuts within a run of blank nodes ([`BLANK`]).
const SEED: u64 = 571;

/// CBOR's null. It adds nothing to the hash, so within a run of nulls every place is a cut: the
/// secret tree of an epoch in which nobody has spoken is nearly all nulls.
const NULL: usize = 0xf6;

/// A blank node of a ratchet tree, `{"node": null}`. Trees hold long runs of them, and without a cut in
/// them every piece there would have the greatest length.
#[cfg(test)]
const BLANK: &[u8] = b"\xa1\x64node\xf6";

/// SplitMix64, as good as random and the same for ever.
const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state = SEED;
    let mut byte = 0;
    while byte < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[byte] = mixed ^ (mixed >> 31);
        byte += 1;
    }
    table[NULL] = 0;
    table
}

/// Cuts `bytes` into pieces; put one after the other they are `bytes` again.
pub(super) fn cut(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (piece, behind) = rest.split_at_checked(first_cut(rest))?;
        rest = behind;
        // Nothing is left.
        (!piece.is_empty()).then_some(piece)
    })
}

/// The length of the first piece.
fn first_cut(bytes: &[u8]) -> usize {
    let mut hash = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(MAX - 1).skip(MIN - 1) {
        hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
        let mask = if at < USUAL { BEFORE } else { AFTER };
        if hash & mask == 0 {
            return at + 1;
        }
    }
    bytes.len().min(MAX)
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
        assert_eq!(lengths(&noise(60_000)), [0]);
    }

    #[test]
    fn lengths_gather_around_the_usual_one() {
        let lengths = lengths(&noise(4_000_000));
        let near = lengths.iter().filter(|len| (USUAL..2 * USUAL).contains(len)).count();
        assert!(near * 10 > lengths.len() * 8, "{near} of {}", lengths.len());
    }

    #[test]
    fn runs_of_blank_nodes_and_of_nulls_are_pieces_of_one_content() {
        for (unit, most) in [(BLANK, MIN + 2 * BLANK.len()), (&[0xf6][..], MIN + 1)] {
            let mut bytes = noise(5_000);
            bytes.extend(unit.repeat(100_000 / unit.len()));
            let pieces: Vec<_> = cut(&bytes).collect();
            let contents: HashSet<_> = pieces.iter().collect();
            assert!(
                pieces.len() > 40 && contents.len() < 7,
                "{} of {}",
                contents.len(),
                pieces.len()
            );
            assert!(pieces[5].len() <= most, "{}", pieces[5].len());
        }
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
            let mut after = before[..at].to_vec();
            after.extend(noise(250_000)[250_000 - put..].iter().map(|byte| !byte));
            after.extend(&before[end..]);
            let known: HashSet<_> = cut(&before).collect();
            let new = cut(&after).filter(|piece| !known.contains(piece)).count();
            prop_assert!(new <= 5, "{new} new pieces");
        }
    }
}
