//! Scenarios: coming into a group, and who is in it.

use matrix_mls_kit::{
    OrMissing as _, Result,
    cross_signing::CrossSigning,
    olm::bound_phone,
    together::{log_in, phone_of, texts},
};
use serde_json::json;

use crate::{
    client::{Second, segment},
    meeting::{Meeting, holds, scenario},
};

#[tokio::test]
async fn joins_by_welcome() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        let joined = meeting.second.room(&meeting.room)?.epochs.len();
        holds(joined > 0, || "it is in an epoch".into())?;
        meeting.reads("from alice").await?;
        meeting.both_talk().await
    };
    scenario("joins_by_welcome", "a device that is added reads and is read from then on", steps)
        .await
}

#[tokio::test]
async fn begins_a_group() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_second().await?;
        meeting.reads("from second").await?;
        meeting.both_talk().await
    };
    scenario("begins_a_group", "a group begins with an announcement that others can follow", steps)
        .await
}

#[tokio::test]
async fn is_added_by_its_last_resort_package() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        // Two more rooms than it has one-time packages.
        let name = (meeting.second.device.0.clone(), meeting.second.device.1.clone());
        for _ in 0..7 {
            let package = crate::names::KEY_PACKAGE;
            let claim = json!({ "one_time_keys": { &name.0: { &name.1: package } } });
            meeting.alice.http().post("/_matrix/client/v3/keys/claim", claim).await?;
        }
        for text in ["a second room", "a third room"] {
            let room = meeting.alice.create_room(&[]).await?;
            meeting.alice.invite(&room, &name.0).await?;
            meeting.second.join(&room).await?;
            meeting.alice.settle().await?;
            meeting.alice.enable(&room, Default::default()).await?;
            meeting.alice.send_text(&room, text).await?;
            meeting.second.settle().await?;
            let known = meeting.second.room(&room)?;
            let read = known.texts().contains(&text);
            holds(read, || format!("it reads {text}: {:?}", known.refused))?;
        }
        // Of the one-time packages, the one that it joined with is gone, and the others stay.
        let kept = meeting.second.mls.packages.len();
        holds(kept == 5, || format!("it has the private keys of {kept} packages"))
    };
    scenario(
        "is_added_by_its_last_resort_package",
        "a device is added when its one-time packages are used up, again and again",
        steps,
    )
    .await
}

#[tokio::test]
async fn adds_a_device() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        let carol = phone_of(&meeting.homeserver, "carol").await?;
        meeting.alice.invite(&meeting.room, carol.user_id()).await?;
        carol.join(&meeting.room).await?;
        meeting.second.say(&meeting.room, "welcome, carol").await?;
        carol.settle().await?;
        let read = texts(&carol, &meeting.room).await;
        holds(read == ["welcome, carol"], || format!("carol reads it: {read:?}"))?;
        meeting.quiet().await?;
        meeting.both_talk().await
    };
    scenario("adds_a_device", "who comes into the room is added before the next message", steps)
        .await
}

#[tokio::test]
async fn removes_a_device() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_second().await?;
        let carol = phone_of(&meeting.homeserver, "carol").await?;
        let laptop = log_in(&meeting.homeserver, "alice", "LAPTOP").await?;
        let room = meeting.room.clone();
        let path = format!("/_matrix/client/v3/rooms/{}", segment(&room));
        let invite = json!({ "user_id": carol.user_id() });
        meeting.second.http.post(&format!("{path}/invite"), invite.clone()).await?;
        carol.join(&room).await?;
        meeting.second.say(&room, "for all").await?;
        for other in [&carol, &laptop] {
            other.settle().await?;
            let read = texts(other, &room).await;
            holds(read.contains(&"for all".into()), || format!("{} reads", other.name()))?;
        }
        // A user is put out, and a device logs out.
        let laptop_name = (meeting.alice.user_id().to_owned(), "LAPTOP".to_owned());
        meeting.second.http.post(&format!("{path}/kick"), invite).await?;
        laptop.log_out().await?;
        meeting.second.say(&room, "for fewer").await?;
        let head = meeting.second.head(&room)?;
        let epoch = meeting.second.room(&room)?.epoch(head)?;
        let tree = epoch.group.as_ref().or_missing("state")?.export_tree().into_owned();
        let members = crate::mls::members(&tree);
        let gone = |user: &str, device: &str| {
            members.iter().all(|(_, member, _)| *member != Some((user.into(), device.into())))
        };
        holds(gone(carol.user_id(), "PHONE"), || "carol's phone is removed".into())?;
        holds(gone(&laptop_name.0, &laptop_name.1), || "the laptop is removed".into())?;
        meeting.quiet().await?;
        meeting.reads("for fewer").await?;
        meeting.both_talk().await
    };
    scenario("removes_a_device", "nothing is sealed to who left or logged out", steps).await
}

#[tokio::test]
async fn renews_keys() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        meeting.quiet().await?;
        let room = meeting.room.clone();
        let before = meeting.second.head(&room)?;
        let own = meeting.second.renew(&room).await?;
        meeting.quiet().await?;
        meeting.on_one_head().await?;
        meeting.alice.rotate_keys(&room).await?;
        meeting.alice.send_text(&room, "in an epoch of its own").await?;
        meeting.quiet().await?;
        meeting.reads("in an epoch of its own").await?;
        let after = meeting.second.head(&room)?;
        holds(before != own && own != after, || "each renewal has an epoch".into())?;
        meeting.both_talk().await
    };
    scenario("renews_keys", "a commit with a path alone is followed on both sides", steps).await
}

#[tokio::test]
async fn joins_externally() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        meeting.quiet().await?;
        let room = meeting.room.clone();
        // Nobody else syncs until it has said something.
        let mut tablet = Second::log_in(&meeting.homeserver, "second", "TABLET").await?;
        tablet.join_externally(&room).await?;
        tablet.say_at_once(&room, "from the tablet").await?;
        meeting.quiet().await?;
        meeting.reads("from the tablet").await?;
        // And so does the library, with nobody but this implementation about.
        let laptop = log_in(&meeting.homeserver, "alice", "LAPTOP").await?;
        laptop.join_externally(&room).await?;
        laptop.settle().await?;
        laptop.send_text(&room, "from the laptop").await?;
        meeting.quiet().await?;
        meeting.reads("from the laptop").await?;
        meeting.both_talk().await
    };
    scenario("joins_externally", "a device comes in by itself with nobody online", steps).await
}

#[tokio::test]
async fn takes_a_binding() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_second().await?;
        let room = meeting.room.clone();
        let (carol, _olm) = bound_phone(&meeting.homeserver, "carol").await?;
        meeting.second.invite(&room, carol.user_id()).await?;
        carol.join(&room).await?;
        meeting.second.say(&room, "to a device beside Olm").await?;
        carol.settle().await?;
        let read = texts(&carol, &room).await;
        holds(read == ["to a device beside Olm"], || format!("carol reads {read:?}"))?;
        carol.send_text(&room, "from a device beside Olm").await?;
        meeting.quiet().await?;
        meeting.reads("from a device beside Olm").await?;
        meeting.both_talk().await
    };
    scenario("takes_a_binding", "a device with an Olm account is known by its leaf", steps).await
}

#[tokio::test]
async fn leaves_out_what_the_owner_has_not_signed() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_second().await?;
        let room = meeting.room.clone();
        // Alice has an identity now, which has signed her phone and not the laptop.
        CrossSigning::bootstrap(&meeting.alice).await?;
        let laptop = log_in(&meeting.homeserver, "alice", "LAPTOP").await?;
        meeting.second.say(&room, "for the phone").await?;
        meeting.quiet().await?;
        laptop.settle().await?;
        meeting.reads("for the phone").await?;
        let read = texts(&laptop, &room).await;
        holds(!read.contains(&"for the phone".into()), || "the laptop reads nothing".into())?;
        meeting.both_talk().await
    };
    scenario(
        "leaves_out_what_the_owner_has_not_signed",
        "nothing is sealed to a device that a homeserver adds to a user with an identity",
        steps,
    )
    .await
}
