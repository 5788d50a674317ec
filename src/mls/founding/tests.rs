//! What is founded is understood by unmodified OpenMLS, whatever its size.

use std::{
    error::Error,
    sync::atomic::{AtomicUsize, Ordering},
};

use matrix_mls_kit::peer::Peer;

use super::*;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A founder, those who are to be in the group, and their key packages, the founder's first.
fn people(number: usize) -> (Vec<Peer>, Vec<KeyPackage>) {
    let name = |place| format!("@user{place}:example.org");
    let peers: Vec<_> = (0..number).map(|place| Peer::new(&name(place), "PHONE")).collect();
    let packages = peers.iter().map(Peer::key_package).collect();
    (peers, packages)
}

fn found(
    peers: &[Peer],
    packages: &[KeyPackage],
    stop: &(dyn Fn() -> bool + Sync),
) -> Outcome<Option<Founded>> {
    let (crypto, group_id) = (Crypto::default(), GroupId::from_slice(b"!room:example.org"));
    let (founder, own) = (peers.first().ok_or("founder")?, packages.first().ok_or("package")?);
    let others = packages.get(1..).unwrap_or_default();
    let founding = Founding {
        crypto: &crypto,
        signer: &founder.signer,
        group_id: &group_id,
        own,
        others,
        is_inline: &|_| true,
        stop,
    };
    Ok(founding.found()?)
}

#[test]
fn whatever_its_size_every_member_joins_and_all_share_the_epoch() -> Outcome {
    for number in [2, 3, 4, 5, 7, 8, 9, 16, 33, 70] {
        let (mut peers, packages) = people(number);
        let founded = found(&peers, &packages, &|| false)?.ok_or("group")?;
        assert_eq!(founded.references.len(), number - 1);
        let (founder, others) = peers.split_first_mut().ok_or("founder")?;
        founder.join(&founded.own_welcome);
        let epoch = founder.group().epoch_authenticator().as_slice().to_vec();
        for (place, other) in others.iter_mut().enumerate() {
            other.join(&founded.welcome);
            let group = other.group();
            assert_eq!(group.epoch_authenticator().as_slice(), epoch, "{place} of {number}");
            assert_eq!((group.epoch().as_u64(), group.members().count()), (1, number));
            assert_eq!(group.own_leaf_index().usize(), place + 1);
            assert_eq!(group.extensions().iter().count(), 0);
        }
        // The next commit is as any: with a path, by the last, taken in by all.
        let commit = others.last_mut().ok_or("member")?.update();
        founder.process(&commit);
        assert_eq!(founder.group().epoch().as_u64(), 2, "of {number}");
    }
    Ok(())
}

#[test]
fn two_groups_of_the_same_people_share_nothing() -> Outcome {
    let (peers, packages) = people(3);
    let one = found(&peers, &packages, &|| false)?.ok_or("group")?;
    let other = found(&peers, &packages, &|| false)?.ok_or("group")?;
    assert_eq!(one.tree, other.tree);
    assert_ne!(one.own_welcome, other.own_welcome);
    Ok(())
}

#[test]
fn it_can_be_stopped_between_any_two_steps() -> Outcome {
    let (peers, packages) = people(5);
    let asked = AtomicUsize::new(0);
    let ask_up_to = |most: usize| {
        asked.store(0, Ordering::SeqCst);
        found(&peers, &packages, &|| asked.fetch_add(1, Ordering::SeqCst) >= most)
    };
    assert!(ask_up_to(usize::MAX)?.is_some());
    let steps = asked.load(Ordering::SeqCst);
    assert!(steps >= packages.len());
    for most in 0..steps {
        assert!(ask_up_to(most)?.is_none(), "stopped after {most}");
    }
    Ok(())
}
