//! Who gives way where too much waits.
//!
//! Anybody can send a device Welcomes and offers, under as many names as a homeserver has accounts.
//! What waits is bounded, so something has to go: the oldest of whoever takes the most, on the
//! homeserver that takes the most. One who sends little is not pushed out by one who sends much.

use std::collections::BTreeMap;

use ruma::{OwnedUserId, ServerName, UserId};

/// Something that waits: who sent it, and how much it takes.
pub(crate) struct Share {
    pub(crate) sender: OwnedUserId,
    pub(crate) weight: u64,
}

/// Takes what is too much out of what waits, which is in the order in which it came.
pub(crate) fn take_surplus<T>(
    waiting: &mut Vec<T>,
    most: u64,
    share: impl Fn(&T) -> Share,
) -> Vec<T> {
    let mut surplus = Vec::new();
    loop {
        let shares: Vec<Share> = waiting.iter().map(&share).collect();
        let weight = shares.iter().fold(0u64, |sum, share| sum.saturating_add(share.weight));
        match first_to_go(&shares) {
            Some(first) if weight > most => surplus.push(waiting.remove(first)),
            _ => return surplus,
        }
    }
}

/// The place of the one that goes first, of these in the order in which they came.
fn first_to_go(shares: &[Share]) -> Option<usize> {
    let mut servers: BTreeMap<&ServerName, u64> = BTreeMap::new();
    let mut senders: BTreeMap<&UserId, u64> = BTreeMap::new();
    for share in shares {
        *servers.entry(share.sender.server_name()).or_default() += share.weight;
        *senders.entry(&share.sender).or_default() += share.weight;
    }
    let taken = |share: &Share| {
        (servers.get(share.sender.server_name()).copied(), senders.get(&*share.sender).copied())
    };
    // Of several with the same key the first is the last of the reversed list.
    shares.iter().enumerate().rev().max_by_key(|(_, share)| taken(share)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(of: &[(&str, u64)]) -> Result<Vec<Share>, ruma::IdParseError> {
        of.iter()
            .map(|(sender, weight)| Ok(Share { sender: UserId::parse(sender)?, weight: *weight }))
            .collect()
    }

    #[test]
    fn the_oldest_of_whoever_takes_the_most_goes_first() -> Result<(), ruma::IdParseError> {
        for (of, first) in [
            (&[][..], None),
            (&[("@a:one", 1), ("@b:two", 1)], Some(0)),
            (&[("@a:one", 1), ("@b:two", 2)], Some(1)),
            (&[("@a:one", 1), ("@b:two", 1), ("@b:two", 1)], Some(1)),
            // Many names on one server are no way around it.
            (&[("@a:one", 3), ("@b:two", 2), ("@c:two", 2)], Some(1)),
            (&[("@a:one", 1), ("@b:one", 1), ("@b:one", 1), ("@c:two", 2)], Some(1)),
        ] {
            assert_eq!(first_to_go(&shares(of)?), first, "{of:?}");
        }
        Ok(())
    }

    #[test]
    fn one_who_sends_little_is_pushed_out_by_nobody_who_sends_much()
    -> Result<(), ruma::IdParseError> {
        let mut waiting = vec![("@honest:one".to_owned(), 0)];
        for number in 0..1_000 {
            waiting.push((format!("@stranger{}:two", number % 50), number));
            let surplus = take_surplus(&mut waiting, 8, |(sender, _)| Share {
                sender: UserId::parse(sender.as_str()).unwrap_or_else(|_| unreachable!()),
                weight: 1,
            });
            assert_eq!(surplus.len(), usize::from(waiting.len() == 8 && number > 6));
        }
        assert_eq!(waiting.first(), Some(&("@honest:one".to_owned(), 0)));
        assert_eq!(waiting.len(), 8);
        Ok(())
    }
}
