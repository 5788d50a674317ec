//! What differences save, and that whoever comes in finds the tree by them.

use matrix_mls_kit::{
    OrMissing as _, Result, bail, crowd,
    giant::Giant,
    together::{all_talk, log_in, phone_of, quiet, texts},
    written_tree::Shape,
};

use super::{DEVICES, Large};

#[tokio::test]
async fn most_commits_upload_nothing_and_members_fetch_nothing() -> Result {
    let large = Large::new().await?;
    let Large { homeserver, alice, bob, room } = &large;
    large.media_requests().await?;
    for round in 0..3 {
        large.renew(alice, &format!("alice {round}")).await?;
        large.renew(bob, &format!("bob {round}")).await?;
    }
    assert_eq!(large.media_requests().await?, (0, 0), "uploads and downloads of six commits");
    let commits = large.commits().await?;
    let last = commits.last().or_missing("commit")?;
    let nodes = last["tree_difference"]["nodes"].as_str().or_missing("nodes")?;
    assert!(nodes.len() < 20_000, "{}", nodes.len());
    assert!(last.get("ratchet_tree").is_none());

    // A laptop that joins by itself fetches the base, and what it commits names the same.
    let laptop = log_in(homeserver, "bob", "LAPTOP").await?;
    laptop.join_externally(room).await?;
    laptop.settle().await?;
    let (uploads, downloads) = large.media_requests().await?;
    assert_eq!((uploads, downloads), (0, 1));
    all_talk(&[&laptop, alice, bob], room).await;
    assert_eq!(alice.members(room).await?.len(), DEVICES + 3);
    // Another one, who comes in by what the laptop has published.
    let tablet = log_in(homeserver, "alice", "TABLET").await?;
    tablet.join_externally(room).await?;
    all_talk(&[&tablet, &laptop, alice, bob], room).await;
    Ok(())
}

#[tokio::test]
async fn whoever_is_added_finds_the_tree_by_the_difference() -> Result {
    let large = Large::new().await?;
    let Large { homeserver, alice, bob, room } = &large;
    let carol = phone_of(homeserver, "carol").await?;
    alice.invite(room, carol.user_id()).await?;
    carol.join(room).await?;
    alice.settle().await?;
    large.media_requests().await?;
    alice.send_text(room, "welcome").await?;
    let last = large.commits().await?.pop().or_missing("commit")?;
    assert!(last.get("tree_difference").is_some() && last.get("ratchet_tree").is_none());
    quiet(&[&carol, alice, bob]).await;
    assert_eq!(texts(&carol, room).await, ["welcome"]);
    all_talk(&[&carol, alice, bob], room).await;
    // Many at once have a difference that stands in the media repository once.
    let crowd = crowd::register(homeserver, "others", 20).await?;
    crowd::enter_room(alice, room, &crowd).await?;
    alice.settle().await?;
    alice.send_text(room, "welcome, all").await?;
    let last = large.commits().await?.pop().or_missing("commit")?;
    assert!(last["tree_difference"].get("middle").is_some(), "{last}");
    assert!(last["tree_difference"].get("nodes").is_none());
    for mut device in crowd {
        let size = device.join_group().await?;
        assert!(size < 4_000, "a Welcome takes {size} bytes");
    }
    // What comes next is built on that: whoever joins fetches two values, and never more.
    quiet(&[&carol, alice, bob]).await;
    large.renew(bob, "on the middle").await?;
    let last = large.commits().await?.pop().or_missing("commit")?;
    assert!(last["tree_difference"].get("middle").is_some(), "{last}");
    assert!(last["tree_difference"].get("nodes").is_some());
    large.media_requests().await?;
    let laptop = log_in(homeserver, "bob", "LAPTOP").await?;
    laptop.join_externally(room).await?;
    laptop.settle().await?;
    assert_eq!(large.media_requests().await?.1, 2);
    all_talk(&[&laptop, &carol, alice, bob], room).await;
    Ok(())
}

#[tokio::test]
async fn each_branch_of_a_fork_names_a_base_that_leads_to_it() -> Result {
    let large = Large::new().await?;
    let Large { homeserver, alice, bob, room } = &large;
    large.renew(alice, "before").await?;
    large.renew(bob, "the fork").await?;
    // Both commit on one epoch, each several times, without hearing of the other.
    let controls = homeserver.controls().or_missing("controls")?;
    let cut = [alice, bob].map(|client| {
        let target = matrix_mls_kit::Target::path("/sync").user(client.user_id());
        controls.partition(target)
    });
    for client in [alice, bob] {
        for round in 0..2 {
            client.rotate_keys(room).await?;
            client.send_text(room, &format!("{} {round}", client.name())).await?;
        }
    }
    for fault in cut {
        fault.stop();
    }
    let laptop = log_in(homeserver, "alice", "LAPTOP").await?;
    laptop.join_externally(room).await?;
    all_talk(&[&laptop, alice, bob], room).await;
    Ok(())
}

#[tokio::test]
async fn a_device_that_is_killed_again_and_again_names_what_is_there() -> Result {
    let Large { homeserver, mut alice, bob, room } = Large::new().await?;
    let room = &room;
    for round in 0..2 {
        alice.crash().await?;
        alice.restart().await?;
        alice.settle().await?;
        alice.rotate_keys(room).await?;
        alice.send_text(room, &format!("back {round}")).await?;
    }
    quiet(&[&alice, &bob]).await;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    laptop.join_externally(room).await?;
    all_talk(&[&laptop, &alice, &bob], room).await;
    Ok(())
}

/// What a commit sends of its tree at 1,000 devices, beside the whole tree that it sent before.
#[tokio::test]
async fn a_commit_in_a_room_of_1_000_devices_sends_little_of_its_tree() -> Result {
    let store = tempfile::tempdir()?;
    let mut giant = Giant::new(1_000, Shape::Warm, store.path()).await?;
    let mut sent = Vec::new();
    for _ in 0..6 {
        giant.device.room.rotate_keys().await?;
        giant.tables.take_sent();
        giant.tables.make_ready(&giant.device.machine, &giant.device.room).await?;
        let commit = giant.tables.take_sent();
        sent.push((commit.bytes, commit.tree_bytes));
    }
    eprintln!("bytes of a commit, and of its tree: {sent:?}");
    let [(_, whole), rest @ ..] = &*sent else { bail!("no commit") };
    for (bytes, tree) in rest {
        assert!(*tree > 0 && 20 * tree < *whole, "{tree} of {whole}");
        assert!(10 * bytes < *whole, "{bytes} of {whole}");
    }
    Ok(())
}
