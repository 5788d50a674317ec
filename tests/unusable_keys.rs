//! Encryption keys to which nobody can seal: of small order, so that everybody would know the
//! secret. A device that publishes a key package with one is left out and told. A member who puts
//! one into the group's tree locks out nobody but the key's owner: the others go on committing.

use std::sync::Arc;

use matrix_mls::{RoomSettings, Update, UpdateSubscription};
use matrix_mls_kit::{
    Client, Heard, Homeserver, Result,
    other::{Other, join_path, name_of},
    peer::{ForgedKeys, KEY_PACKAGE, base64, from_base64},
    together::{all_talk, log_in, quiet, two_phones},
};
use openmls::prelude::{KeyPackage, KeyPackageIn, OpenMlsProvider as _, ProtocolVersion};
use serde_json::{Value, json};
use tls_codec::DeserializeBytes as _;

/// 0, 1 and -1, as the coordinates of points.
fn of_small_order() -> [Vec<u8>; 3] {
    let (mut one, mut minus_one) = (vec![0; 32], vec![0xff; 32]);
    one[0] = 1;
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    [vec![0; 32], one, minus_one]
}

fn init_key(key: Vec<u8>) -> ForgedKeys {
    ForgedKeys { init_key: Some(key), ..ForgedKeys::default() }
}

fn encryption_key(key: Vec<u8>) -> ForgedKeys {
    ForgedKeys { encryption_key: Some(key), ..ForgedKeys::default() }
}

/// Alice, Bob and Mallory in one group, and Trudy in the room: the homeserver has these key
/// packages of hers. The room, the event of its last commit, and what Alice's app was told.
struct Scene {
    homeserver: Homeserver,
    alice: Client,
    bob: Client,
    mallory: Other,
    trudy: Other,
    room: String,
    commit: String,
    heard: (Arc<Heard>, Arc<UpdateSubscription>),
}

impl Scene {
    async fn new(packages: &[ForgedKeys]) -> Result<Self> {
        let homeserver = Homeserver::embedded()?;
        let (alice, bob) = two_phones(&homeserver).await?;
        let mut mallory = Other::register(&homeserver, "mallory").await;
        let trudy = Other::register(&homeserver, "trudy").await;
        let (user, device) = (&trudy.peer.user, &trudy.peer.device);
        let claim = json!({ "one_time_keys": { user: { device: KEY_PACKAGE } } });
        trudy.http.post("/_matrix/client/v3/keys/claim", claim).await?;
        for keys in packages {
            let (id, package) = trudy.peer.forged_key_package(keys);
            let upload = json!({
                "device_keys": trudy.peer.device_keys(), "one_time_keys": { id: package },
            });
            trudy.http.post("/_matrix/client/v3/keys/upload", upload).await?;
        }
        let invite = [&mallory.peer.user, bob.user_id(), &trudy.peer.user];
        let request = json!({ "preset": "private_chat", "invite": invite });
        let room = alice.create_room_from(request).await?;
        mallory.http.post(&join_path(&room), json!({})).await?;
        bob.join(&room).await?;
        quiet(&[&alice, &bob]).await;
        alice.enable(&room, RoomSettings::default()).await?;
        let heard = Heard::of(&alice).await?;
        alice.send_text(&room, "first").await?;
        quiet(&[&alice, &bob]).await;
        let commit = mallory.join_by_welcome().await;
        trudy.http.post(&join_path(&room), json!({})).await?;
        quiet(&[&alice, &bob]).await;
        Ok(Self { homeserver, alice, bob, mallory, trudy, room, commit, heard })
    }

    /// Trudy's key package with these keys.
    fn package(&self, keys: &ForgedKeys) -> Result<KeyPackage> {
        let (_, package) = self.trudy.peer.forged_key_package(keys);
        let package = KeyPackageIn::tls_deserialize_exact_bytes(&from_base64(&package))?;
        Ok(package.validate(self.mallory.peer.provider.crypto(), ProtocolVersion::Mls10)?)
    }

    async fn send(&mut self, content: Value) {
        self.commit = self.mallory.send(&self.room, content).await;
    }
}

#[tokio::test]
async fn who_publishes_one_is_left_out_and_told() -> Result {
    for forge in [init_key, encryption_key] {
        let scene = Scene::new(&of_small_order().map(forge)).await?;
        let is_told = |update: &Update| matches!(update, Update::DeviceUnreachable { .. });
        scene.heard.0.wait_for(is_told).await?;
        let members = scene.alice.members(&scene.room).await?;
        let user = &scene.trudy.peer.user;
        assert!(members.iter().all(|member| member.user_id != *user), "{members:?}");
        all_talk(&[&scene.alice, &scene.bob], &scene.room).await;
    }
    Ok(())
}

/// Mallory adds the device with such a key in its leaf: to all who commit with a path from now on,
/// the device is somebody to seal to.
#[tokio::test]
async fn one_in_the_tree_ends_nothing() -> Result {
    for key in of_small_order() {
        let mut scene = Scene::new(&[]).await?;
        let package = scene.package(&encryption_key(key))?;
        let (commit, _) = scene.mallory.peer.add(&[package]);
        let mut content = scene.mallory.commit(&commit, &name_of(&scene.alice), &scene.commit);
        content["public_group_state"] = json!(base64(&scene.mallory.peer.group_info()));
        scene.send(content).await;
        let Scene { homeserver, alice, bob, room, trudy, .. } = &scene;
        quiet(&[alice, bob]).await;
        assert_eq!(alice.head(room).await?.creator_user_id, scene.mallory.peer.user);
        for client in [alice, bob] {
            client.rotate_keys(room).await?;
            client.send_text(room, "under new keys").await?;
            quiet(&[alice, bob]).await;
            assert_eq!(client.head(room).await?.creator_user_id, client.user_id());
        }
        let laptop = log_in(homeserver, "bob", "LAPTOP").await?;
        laptop.join_externally(room).await?;
        quiet(&[alice, bob, &laptop]).await;
        all_talk(&[alice, bob, &laptop], room).await;
        alice.kick(room, &trudy.peer.user).await?;
        all_talk(&[alice, bob, &laptop], room).await;
    }
    Ok(())
}

/// Mallory commits, and beside the commit is a GroupInfo with a key for external joins that is not
/// the epoch's: of small order, or one whose private key nobody has.
#[tokio::test]
async fn a_wrong_key_for_external_joins_locks_out_nobody() -> Result {
    let [small, ..] = of_small_order();
    for key in [small, vec![9; 32]] {
        let mut scene = Scene::new(&[]).await?;
        let commit = scene.mallory.peer.update();
        let mut content = scene.mallory.commit(&commit, &name_of(&scene.alice), &scene.commit);
        let forged = scene.mallory.peer.group_info_with_external_key(&key);
        content["public_group_state"] = json!(base64(&forged));
        scene.send(content).await;
        let Scene { homeserver, alice, bob, room, .. } = &scene;
        quiet(&[alice, bob]).await;
        let laptop = log_in(homeserver, "bob", "LAPTOP").await?;
        laptop.join_externally(room).await?;
        quiet(&[&laptop, alice, bob]).await;
        all_talk(&[alice, bob, &laptop], room).await;
    }
    Ok(())
}
