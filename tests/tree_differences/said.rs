//! What members and servers say of a tree that is not so.

use std::collections::BTreeSet;

use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Result, is_commit,
    other::{Other, name_of},
    peer::{Peer, base64},
    published_tree::{self, Nodes},
    together::{all_talk, log_in},
};
use serde_json::{Value, json};

use super::{Large, upload, url_of, with_mallory};

/// What a member says about a tree in place of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
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

/// Mallory's commit, and what she says of its tree.
pub async fn say(
    said: Said,
    alice: &Client,
    mallory: &mut Other,
    room: &str,
    base: &str,
) -> Result {
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
            let mut stranger = Peer::new("@mallory:embedded.test", "SECOND");
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
