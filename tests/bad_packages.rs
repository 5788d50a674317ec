//! Key packages that look good by themselves and that no commit can take: with a key that somebody
//! else has. The device that publishes one is left out and told, everybody else is added with the
//! same commit, and the room goes on: after a restart as well, and in every room with that user.

use std::collections::BTreeSet;

use matrix_mls::{RoomSettings, Update, test_hooks};
use matrix_mls_kit::{
    Client, Heard, Homeserver, Result,
    other::{Other, join_path, make_group},
    peer::{ForgedKeys, KEY_PACKAGE},
    together::{all_talk, phone_of, quiet, texts},
};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

/// Two rooms with Alice and Bob in them. In the first is Mallory as well, in the second Trudy: they
/// know the others' keys.
struct Rooms {
    homeserver: Homeserver,
    alice: Client,
    bob: Client,
    first: (String, Other),
    second: (String, Other),
}

impl Rooms {
    async fn new() -> Result<Self> {
        let homeserver = Homeserver::embedded()?;
        let alice = phone_of(&homeserver, "alice").await?;
        let bob = phone_of(&homeserver, "bob").await?;
        let first = room_with(&homeserver, &alice, &bob, "mallory").await?;
        let second = room_with(&homeserver, &alice, &bob, "trudy").await?;
        Ok(Self { homeserver, alice, bob, first, second })
    }

    /// Bob's encryption keys, in the order in which Alice is asked to use a key package with them.
    fn keys_of_bob(&mut self) -> [Vec<u8>; 2] {
        [&mut self.first, &mut self.second]
            .map(|(_, other)| other.peer.encryption_key_of(self.bob.user_id(), "PHONE"))
    }
}

async fn room_with(
    homeserver: &Homeserver,
    alice: &Client,
    bob: &Client,
    name: &str,
) -> Result<(String, Other)> {
    let (mut other, id) = Other::in_room_of(homeserver, name, alice, &[bob]).await?;
    make_group(alice, bob, &mut other, &id, &RoomSettings::default()).await?;
    Ok((id, other))
}

/// A user whose key packages on the homeserver are these, in this order, for ever.
async fn with_packages(
    homeserver: &Homeserver,
    name: &str,
    keys: impl Iterator<Item = ForgedKeys>,
) -> Result<Other> {
    let other = Other::register(homeserver, name).await;
    let (user, device) = (&other.peer.user, &other.peer.device);
    // The one it has published is claimed and thrown away.
    let claim = json!({ "one_time_keys": { user: { device: KEY_PACKAGE } } });
    other.http.post("/_matrix/client/v3/keys/claim", claim).await?;
    for keys in keys {
        let (id, package) = other.peer.forged_key_package(&keys);
        let upload =
            json!({ "device_keys": other.peer.device_keys(), "one_time_keys": { id: package } });
        other.http.post("/_matrix/client/v3/keys/upload", upload).await?;
    }
    Ok(other)
}

/// The users in a group.
async fn users(client: &Client, room: &str) -> Result<BTreeSet<String>> {
    Ok(client.members(room).await?.into_iter().map(|member| member.user_id).collect())
}

/// The users of whose devices the app hears that they cannot be added, once it has heard of so
/// many.
async fn told(heard: &Heard, number: usize) -> Result<BTreeSet<String>> {
    let mut told = BTreeSet::new();
    while told.len() < number {
        let user = heard.hear(|update| match update {
            Update::DeviceUnreachable { user_id, .. } => Some(user_id.clone()),
            _ => None,
        });
        told.insert(user.await?);
    }
    Ok(told)
}

/// Alice lets these and two good ones into both rooms, a message for each. So many of these have to
/// stay outside.
async fn goes_on(mut rooms: Rooms, bad: &[&Other], outside: usize) -> Result {
    let dave = phone_of(&rooms.homeserver, "dave").await?;
    let erin = phone_of(&rooms.homeserver, "erin").await?;
    for id in [rooms.first.0.clone(), rooms.second.0.clone()] {
        for other in bad {
            rooms.alice.invite(&id, &other.peer.user).await?;
            other.http.post(&join_path(&id), json!({})).await?;
        }
        for good in [&dave, &erin] {
            rooms.alice.invite(&id, good.user_id()).await?;
            good.join(&id).await?;
        }
        rooms.alice.settle().await?;
        let (heard, subscription) = Heard::of(&rooms.alice).await?;
        let before = rooms.alice.commits(&id).await?.len();
        rooms.alice.send_text(&id, "with all who can be added").await?;
        let inside = users(&rooms.alice, &id).await?;
        for good in [&dave, &erin] {
            assert!(inside.contains(good.user_id()), "{inside:?}");
        }
        assert_eq!(rooms.alice.commits(&id).await?.len(), before + 1, "all in one commit");
        let all = bad.iter().map(|other| other.peer.user.clone());
        let out: BTreeSet<String> = all.filter(|user| !inside.contains(user)).collect();
        assert_eq!(out.len(), outside, "{inside:?}");
        assert_eq!(told(&heard, outside).await?, out);
        drop((heard, subscription));
        rooms.alice.restart().await?;
        rooms.alice.send_text(&id, "after a restart").await?;
        assert_eq!(
            rooms.alice.commits(&id).await?.len(),
            before + 1,
            "nobody tries it again at once"
        );
        quiet(&[&rooms.alice, &rooms.bob, &dave, &erin]).await;
        for reader in [&rooms.bob, &dave, &erin] {
            let read = texts(reader, &id).await;
            for text in ["with all who can be added", "after a restart"] {
                assert!(read.contains(&text.to_owned()), "{} reads {read:?}", reader.name());
            }
        }
        all_talk(&[&rooms.alice, &rooms.bob, &dave, &erin], &id).await;
    }
    Ok(())
}

/// The hook belongs to the process, so the tests take turns.
async fn all_fit(all_fit: bool) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    test_hooks::set_all_fit(all_fit);
    turn
}

/// A member's key as the leaf's encryption key, or as the init key. So many packages are asked for
/// in each room, and all of them are bad there.
async fn with_keys_of_a_member(is_init_key: bool, asked: usize) -> Result {
    let mut rooms = Rooms::new().await?;
    let keys = rooms.keys_of_bob().into_iter().flat_map(|key| std::iter::repeat_n(key, asked));
    let forged = keys.map(|key| match is_init_key {
        true => ForgedKeys { init_key: Some(key), ..ForgedKeys::default() },
        false => ForgedKeys { encryption_key: Some(key), ..ForgedKeys::default() },
    });
    let bad = with_packages(&rooms.homeserver, "bad", forged).await?;
    goes_on(rooms, &[&bad], 1).await
}

#[tokio::test]
async fn a_leaf_with_the_encryption_key_of_a_member_is_left_out() -> Result {
    let _turn = all_fit(false).await;
    with_keys_of_a_member(false, 12).await
}

#[tokio::test]
async fn an_init_key_that_is_the_encryption_key_of_a_member_is_left_out() -> Result {
    let _turn = all_fit(false).await;
    with_keys_of_a_member(true, 12).await
}

/// Three users publish packages with one init key, or with one encryption key: one of them is
/// added.
async fn with_a_key_in_common(is_init_key: bool) -> Result {
    let rooms = Rooms::new().await?;
    let mut bad = Vec::new();
    for name in ["one", "two", "three"] {
        let key = || Some(vec![9; 32]);
        let forged = (0..30).map(|_| match is_init_key {
            true => ForgedKeys { init_key: key(), ..ForgedKeys::default() },
            false => ForgedKeys { encryption_key: key(), ..ForgedKeys::default() },
        });
        bad.push(with_packages(&rooms.homeserver, name, forged).await?);
    }
    goes_on(rooms, &bad.iter().collect::<Vec<_>>(), 2).await
}

#[tokio::test]
async fn of_packages_with_an_init_key_in_common_one_is_added() -> Result {
    let _turn = all_fit(false).await;
    with_a_key_in_common(true).await
}

#[tokio::test]
async fn of_packages_with_an_encryption_key_in_common_one_is_added() -> Result {
    let _turn = all_fit(false).await;
    with_a_key_in_common(false).await
}

/// A bad package lies before a good one: the device is added at the first try.
#[tokio::test]
async fn a_good_package_behind_a_bad_one_is_used() -> Result {
    let _turn = all_fit(false).await;
    let mut rooms = Rooms::new().await?;
    let [first, second] = rooms.keys_of_bob();
    let bad = |key| ForgedKeys { encryption_key: Some(key), ..ForgedKeys::default() };
    let packages = [bad(first), ForgedKeys::default(), bad(second), ForgedKeys::default()];
    let late = with_packages(&rooms.homeserver, "late", packages.into_iter()).await?;
    goes_on(rooms, &[&late], 0).await
}

/// Only OpenMLS sees what is wrong, and does not say with whom: found by trying, and the others are
/// added with the same commit.
#[tokio::test]
async fn whom_openmls_refuses_is_found_by_trying() -> Result {
    let _turn = all_fit(true).await;
    with_keys_of_a_member(false, 1).await?;
    with_a_key_in_common(true).await
}

/// More are refused than are looked for: those before them are added first, and the rest after
/// them.
#[tokio::test]
async fn many_whom_openmls_refuses_hold_up_nobody() -> Result {
    let _turn = all_fit(true).await;
    let mut rooms = Rooms::new().await?;
    let [key, _] = rooms.keys_of_bob();
    let id = rooms.first.0.clone();
    for number in 0..9 {
        let forged = [ForgedKeys { encryption_key: Some(key.clone()), ..ForgedKeys::default() }];
        let name = format!("bad{number}");
        let other = with_packages(&rooms.homeserver, &name, forged.into_iter()).await?;
        rooms.alice.invite(&id, &other.peer.user).await?;
        other.http.post(&join_path(&id), json!({})).await?;
    }
    let amy = phone_of(&rooms.homeserver, "amy").await?;
    let zoe = phone_of(&rooms.homeserver, "zoe").await?;
    for good in [&amy, &zoe] {
        rooms.alice.invite(&id, good.user_id()).await?;
        good.join(&id).await?;
    }
    rooms.alice.settle().await?;
    rooms.alice.send_text(&id, "for all").await?;
    assert_eq!(users(&rooms.alice, &id).await?.len(), 5, "Alice, Bob, Mallory, Amy and Zoe");
    quiet(&[&rooms.alice, &rooms.bob, &amy, &zoe]).await;
    all_talk(&[&rooms.alice, &rooms.bob, &amy, &zoe], &id).await;
    Ok(())
}
