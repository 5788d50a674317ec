//! Ratchet trees that commits publish as what differs from a tree that was published before: what
//! that saves, who needs it, and what members and servers can say there.

use std::{collections::BTreeSet, time::Duration};

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Result, bail, crowd,
    giant::Giant,
    is_commit,
    other::{Other, join_path, name_of},
    peer::base64,
    published_tree::{self, Nodes},
    together::{all_talk, log_in, pair_without_a_group, phone_of, quiet, texts},
    written_tree::Shape,
};
use serde_json::{Value, json};

/// The algorithm of a to-device event that asks for a tree, without the ciphersuite.
const TREE_REQUEST: &str = "org.matrix.msc2883.v1.dmls.tree_request";

/// So many that no event holds the tree.
const DEVICES: usize = 220;

/// A room whose tree no event holds: Alice's and Bob's phones, and many that are offline.
struct Large {
    homeserver: Homeserver,
    alice: Client,
    bob: Client,
    room: String,
}

impl Large {
    async fn new() -> Result<Self> {
        let homeserver = Homeserver::embedded()?;
        let (alice, bob, room) = pair_without_a_group(&homeserver).await?;
        let crowd = crowd::register(&homeserver, "crowd", DEVICES).await?;
        crowd::enter_room(&alice, &room, &crowd).await?;
        alice.settle().await?;
        alice.enable(&room, RoomSettings::default()).await?;
        alice.send_text(&room, "to all of you").await?;
        quiet(&[&alice, &bob]).await;
        let history = alice.history(&room).await?;
        let last = history.iter().rev().find(|event| is_commit(event)).or_missing("commit")?;
        assert!(
            last["content"].get("ratchet_tree").is_some(),
            "a whole tree, outside of the event"
        );
        Ok(Self { homeserver, alice, bob, room })
    }

    /// The contents of its commits, oldest first.
    async fn commits(&self) -> Result<Vec<Value>> {
        let history = self.alice.history(&self.room).await?;
        Ok(history.into_iter().filter(is_commit).map(|event| event["content"].clone()).collect())
    }

    /// How many uploads were answered since this was last asked, and how many downloads of trees.
    async fn media_requests(&self) -> Result<(usize, usize)> {
        let controls = self.homeserver.controls().or_missing("controls")?;
        let requests = controls.requests();
        controls.clear_requests();
        let count = |part: &str| requests.iter().filter(|sent| sent.path.contains(part)).count();
        // Whoever joins also looks at large commits of the past.
        let mut of_trees = 0;
        let trees: Vec<_> = self.commits().await?.iter().flat_map(published_tree::values).collect();
        let urls: BTreeSet<_> = trees.iter().filter_map(|tree| tree["url"].as_str()).collect();
        for name in urls.iter().filter_map(|url| url.rsplit('/').next()) {
            of_trees += count(&format!("/media/download/embedded.test/{name}"));
        }
        Ok((count("/media/v3/upload"), of_trees))
    }

    /// A commit by which this device renews its keys, and everybody's hearing of it.
    async fn renew(&self, client: &Client, text: &str) -> Result {
        client.rotate_keys(&self.room).await?;
        client.send_text(&self.room, text).await?;
        quiet(&[&self.alice, &self.bob]).await;
        Ok(())
    }
}

fn url_of(reference: &Value) -> Result<&str> {
    reference["url"].as_str().or_missing("URL")
}

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

/// What a member says about a tree in place of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    TheTruth,
    TheTruthInTwoSteps,
    ABaseThatIsNowhere,
    ABaseOfAnotherGroup,
    ABaseWithoutUrl,
    NothingThatLeadsOn,
    ANodeOutsideOfTheTree,
    NodesOutOfOrder,
    AGiantTree,
    AGiantMiddle,
    NoDifference,
    NoBase64,
    NoNode,
    OtherNodes,
    SomethingElse,
}

const ALL_SAID: [Said; 15] = [
    Said::TheTruth,
    Said::TheTruthInTwoSteps,
    Said::ABaseThatIsNowhere,
    Said::ABaseOfAnotherGroup,
    Said::ABaseWithoutUrl,
    Said::NothingThatLeadsOn,
    Said::ANodeOutsideOfTheTree,
    Said::NodesOutOfOrder,
    Said::AGiantTree,
    Said::AGiantMiddle,
    Said::NoDifference,
    Said::NoBase64,
    Said::NoNode,
    Said::OtherNodes,
    Said::SomethingElse,
];

/// The nodes in which two trees differ.
fn changed(from: &Nodes, to: &Nodes) -> Vec<(u64, Option<Vec<u8>>)> {
    (0_u64..)
        .zip(to)
        .enumerate()
        .filter(|(place, (_, node))| from.get(*place).cloned().flatten() != **node)
        .map(|(_, (place, node))| (place, node.clone()))
        .collect()
}

/// A room of Alice's with Mallory, a member with a client of her own.
async fn with_mallory(homeserver: &Homeserver) -> Result<(Client, Other, String, String)> {
    let alice = phone_of(homeserver, "alice").await?;
    let mut mallory = Other::register(homeserver, "mallory").await;
    let request = json!({ "preset": "private_chat", "invite": [mallory.peer.user] });
    let room = alice.create_room_from(request).await?;
    mallory.http.post(&join_path(&room), json!({})).await?;
    alice.settle().await?;
    alice.enable(&room, RoomSettings::default()).await?;
    alice.send_text(&room, "first").await?;
    let commit = mallory.join_by_welcome().await;
    Ok((alice, mallory, room, commit))
}

/// Mallory's commit, and what she says of its tree.
async fn say(said: Said, alice: &Client, mallory: &mut Other, room: &str, base: &str) -> Result {
    let (_, before) = mallory.peer.public_state();
    let commit = mallory.peer.update();
    let (info, after) = mallory.peer.public_state();
    let reference = |bytes: Vec<u8>| upload(alice, bytes);
    let (old, new) = (published_tree::cut(&before)?, published_tree::cut(&after)?);
    let count = new.len() as u64;
    let differs = changed(&old, &new);
    let good = base64(&published_tree::difference(count, &differs)?);
    let made_up = |count: u64, changed: &[(u64, Option<Vec<u8>>)]| -> Result<String> {
        Ok(base64(&published_tree::difference(count, changed)?))
    };
    let whole = reference(before.clone()).await?;
    let leaf = differs.first().cloned().or_missing("node that differs")?;
    let difference = match said {
        Said::TheTruth => json!({ "whole": whole, "nodes": good }),
        Said::TheTruthInTwoSteps => {
            let first = published_tree::difference(count, &differs[..1])?;
            let rest = made_up(count, &differs[1..])?;
            json!({ "whole": whole, "middle": reference(first).await?, "nodes": rest })
        }
        Said::ABaseThatIsNowhere => {
            let mut whole = whole;
            whole["url"] = json!("mxc://embedded.test/nowhere");
            json!({ "whole": whole, "nodes": good })
        }
        Said::ABaseOfAnotherGroup => {
            let mut stranger = matrix_mls_kit::peer::Peer::new("@mallory:embedded.test", "SECOND");
            stranger.create("!another:embedded.test", false);
            let whole = reference(stranger.public_state().1).await?;
            json!({ "whole": whole, "nodes": made_up(count, &differs)? })
        }
        Said::ABaseWithoutUrl => json!({ "whole": { "size": 7 }, "nodes": good }),
        Said::NothingThatLeadsOn => json!({ "whole": whole }),
        Said::ANodeOutsideOfTheTree => {
            json!({ "whole": whole, "nodes": made_up(count, &[(count, leaf.1)])? })
        }
        Said::NodesOutOfOrder => {
            let twice = [leaf.clone(), leaf];
            json!({ "whole": whole, "nodes": made_up(count, &twice)? })
        }
        Said::AGiantTree => json!({ "whole": whole, "nodes": made_up(u64::MAX, &[])? }),
        Said::AGiantMiddle => {
            let middle =
                json!({ "url": whole["url"], "size": 49_000_000, "sha256": whole["sha256"] });
            json!({ "whole": whole, "middle": middle, "nodes": good })
        }
        Said::NoDifference => json!({ "whole": whole, "nodes": base64(&[0xff; 40]) }),
        Said::NoBase64 => json!({ "whole": whole, "nodes": "*" }),
        Said::NoNode => {
            json!({ "whole": whole, "nodes": made_up(count, &[(0, Some(vec![9; 50]))])? })
        }
        Said::OtherNodes => json!({ "whole": whole, "nodes": made_up(count, &[])? }),
        Said::SomethingElse => json!(["a", { "difference": 1 }]),
    };
    let mut content = mallory.commit(&commit, &name_of(alice), base);
    content["public_group_state"] = json!(base64(&info));
    content["tree_difference"] = difference;
    mallory.send(room, content).await;
    Ok(())
}

/// A reference to bytes that are in the media repository now.
async fn upload(client: &Client, bytes: Vec<u8>) -> Result<Value> {
    use sha2::{Digest as _, Sha256};
    let (size, sha256) = (bytes.len(), base64(&Sha256::digest(&bytes)));
    let url = client.upload_media(bytes).await?;
    Ok(json!({ "url": url, "size": size, "sha256": sha256 }))
}

/// Every member takes the commit, whatever it says of its tree; a newcomer joins by it if that is
/// true, and elsewhere if not. All come together.
#[tokio::test]
async fn what_a_member_says_of_a_tree_costs_newcomers_that_epoch_and_members_nothing() -> Result {
    let mut joined_there = BTreeSet::new();
    for said in ALL_SAID {
        let homeserver = Homeserver::embedded()?;
        let (alice, mut mallory, room, base) = with_mallory(&homeserver).await?;
        let before = alice.head(&room).await?;
        say(said, &alice, &mut mallory, &room, &base).await?;
        alice.settle().await?;
        let mallorys = alice.head(&room).await?;
        assert_eq!(mallorys.epoch, before.epoch + 1, "{said:?}: a member takes the commit");
        let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
        // What cannot be joined by is passed over; the commit before it can be.
        let _waits_or_fails = laptop.join_externally(&room).await;
        laptop.settle().await?;
        if let Ok(own) = laptop.head(&room).await
            && own.epoch == mallorys.epoch + 1
        {
            joined_there.insert(said);
        }
        alice.settle().await?;
        alice.rotate_keys(&room).await?;
        alice.send_text(&room, "honest").await?;
        all_talk(&[&alice, &laptop], &room).await;
    }
    assert_eq!(joined_there, BTreeSet::from([Said::TheTruth, Said::TheTruthInTwoSteps]));
    Ok(())
}

/// A member who names a whole tree that is not the group's makes no base for anybody.
#[tokio::test]
async fn nobody_builds_on_a_tree_that_is_not_the_groups() -> Result {
    let large = Large::new().await?;
    let Large { homeserver, alice, bob, .. } = &large;
    large.renew(alice, "before").await?;
    let known = large.commits().await?.pop().or_missing("commit")?;
    let known = url_of(&known["tree_difference"]["whole"])?.to_owned();
    // The homeserver shows Bob a commit of Alice's with another tree.
    let other = upload(alice, vec![7; 50_000]).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    let lie =
        controls.tamper(matrix_mls_kit::Target::path("/sync").user(bob.user_id()), move |answer| {
            let rooms = answer.pointer_mut("/rooms/join").and_then(Value::as_object_mut);
            for room in rooms.into_iter().flat_map(|rooms| rooms.values_mut()) {
                let events = room.pointer_mut("/timeline/events").and_then(Value::as_array_mut);
                for event in events.into_iter().flatten().filter(|event| is_commit(event)) {
                    event["content"]["ratchet_tree"] = other.clone();
                }
            }
        });
    large.renew(alice, "with a lie").await?;
    assert!(lie.hits() > 0);
    lie.stop();
    large.renew(bob, "by bob").await?;
    let last = large.commits().await?.pop().or_missing("commit")?;
    assert_eq!(url_of(&last["tree_difference"]["whole"])?, known);
    Ok(())
}

/// A base that the homeserver has deleted: whoever joins is given the tree, and mends it for all.
#[tokio::test]
async fn a_base_that_is_lost_is_given_to_whoever_joins_and_replaced() -> Result {
    let large = Large::new().await?;
    let Large { homeserver, alice, bob, room } = &large;
    large.renew(alice, "before").await?;
    let base = large.commits().await?.pop().or_missing("commit")?;
    let base = url_of(&base["tree_difference"]["whole"])?.to_owned();
    let controls = homeserver.controls().or_missing("controls")?;
    assert!(controls.delete_media(&base));
    large.media_requests().await?;
    let laptop = log_in(homeserver, "bob", "LAPTOP").await?;
    // The first tries find nothing. Then Alice, who has made the commit, is asked.
    let mut uploads = 0;
    let _waits = laptop.join_externally(room).await;
    for _ in 0..120 {
        if laptop.head(room).await.is_ok() {
            break;
        }
        quiet(&[alice, bob]).await;
        laptop.settle().await?;
        uploads += large.media_requests().await?.0;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(laptop.members(room).await?.len(), DEVICES + 3);
    assert_eq!(uploads, 2, "that of one member, and that of the laptop");
    let last = large.commits().await?.pop().or_missing("commit")?;
    assert!(last.get("ratchet_tree").is_some(), "whoever joins publishes a whole tree: {last}");
    all_talk(&[&laptop, alice, bob], room).await;
    // All build on that.
    large.renew(alice, "after").await?;
    let last = large.commits().await?.pop().or_missing("commit")?;
    assert_ne!(url_of(&last["tree_difference"]["whole"])?, base);
    let tablet = log_in(homeserver, "alice", "TABLET").await?;
    tablet.join_externally(room).await?;
    all_talk(&[&tablet, &laptop, alice, bob], room).await;
    Ok(())
}

/// Whoever is asked may answer with another tree. The tree hash says so, and the next is asked.
#[tokio::test]
async fn a_tree_that_is_offered_in_place_of_the_right_one_is_passed_over() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut mallory, room, base) = with_mallory(&homeserver).await?;
    let (_, old) = mallory.peer.public_state();
    say(Said::ABaseThatIsNowhere, &alice, &mut mallory, &room, &base).await?;
    alice.settle().await?;
    let mallorys = alice.head(&room).await?;
    let commit = mallorys.commit_event.clone().or_missing("event")?;
    let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
    let _waits = laptop.join_externally(&room).await;
    let mut is_asked = false;
    for _ in 0..120 {
        if laptop.head(&room).await.is_ok() {
            break;
        }
        if is_asked {
            alice.settle().await?;
        } else {
            let sync = mallory.http.get("/_matrix/client/v3/sync?timeout=0").await?;
            let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
            is_asked = events.iter().any(|event| {
                let algorithm = event["content"]["algorithm"].as_str().unwrap_or_default();
                algorithm.starts_with(TREE_REQUEST)
            });
            if is_asked {
                let algorithm =
                    "org.matrix.msc2883.v1.dmls.tree.dhkemx25519-aes128gcm-sha256-ed25519";
                let offer = json!({
                    "algorithm": algorithm, "room_id": room, "sender": mallory.name(),
                    "commit_event": commit, "ratchet_tree": upload(&alice, old.clone()).await?,
                });
                mallory.send_welcome(&laptop, offer).await?;
            }
        }
        laptop.settle().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(is_asked, "whoever made the commit is asked first");
    assert_eq!(laptop.head(&room).await?.epoch, mallorys.epoch + 1);
    all_talk(&[&alice, &laptop], &room).await;
    Ok(())
}

#[tokio::test]
async fn asking_for_trees_makes_a_member_upload_once_a_day_and_a_stranger_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mallory, room, base) = with_mallory(&homeserver).await?;
    let eve = Other::register(&homeserver, "eve").await;
    let controls = homeserver.controls().or_missing("controls")?;
    controls.clear_requests();
    let ask = async |of: &Other, commit: &str| -> Result<usize> {
        let algorithm = format!("{TREE_REQUEST}.dhkemx25519-aes128gcm-sha256-ed25519");
        let content = json!({
            "algorithm": algorithm, "room_id": room, "sender": of.name(), "commit_event": commit,
        });
        of.send_welcome(&alice, content).await?;
        alice.settle().await?;
        let requests = controls.requests();
        Ok(requests.iter().filter(|sent| sent.path.contains("/media/v3/upload")).count())
    };
    assert_eq!(ask(&eve, &base).await?, 0, "a stranger");
    assert_eq!(ask(&mallory, "$nowhere:embedded.test").await?, 0, "no commit of the room");
    assert_eq!(ask(&mallory, &base).await?, 1);
    for commit in [&*base, "$nowhere:embedded.test", &base] {
        assert_eq!(ask(&mallory, commit).await?, 1, "once a day");
    }
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
