//! Cross-signing identities, and a homeserver that lies about them: it adds devices, replaces the
//! master key, hides an identity, mixes up users, and replays what was true once.

mod hidden;
mod pinned;
mod policy;
mod signed;

use std::sync::Arc;

use matrix_mls::{Update, UpdateSubscription, UserIdentity};
use matrix_mls_kit::{
    Client, Fault, Heard, Homeserver, OrMissing as _, Result, Target,
    cross_signing::CrossSigning,
    peer::Peer,
    together::{all_talk, lie_about_keys, pair, quiet},
};
use serde_json::{Value, json};

/// What a homeserver says of somebody's keys to another user.
pub async fn answer_about(asker: &Client, user: &str) -> Result<Value> {
    let query = json!({ "device_keys": { user: [] } });
    Ok(asker.http().post("/_matrix/client/v3/keys/query", query).await?)
}

/// A device that the homeserver has made up for somebody: listed, and with a key package.
pub struct Ghost {
    faults: Vec<Fault>,
}

impl Ghost {
    pub const DEVICE: &'static str = "GHOST";

    /// Every client of these is told of it. Where there is an identity, it signs the ghost.
    pub fn of(
        homeserver: &Homeserver,
        user: &Client,
        told_to: &[&Client],
        signed_by: Option<&CrossSigning>,
    ) -> Result<Self> {
        let peer = Peer::new(user.user_id(), Self::DEVICE);
        let mut keys = peer.device_keys();
        if let Some(identity) = signed_by {
            keys = identity.sign_device(keys)?;
        }
        let controls = homeserver.controls().or_missing("controls")?;
        let mut faults = Vec::new();
        for client in told_to {
            let (owner, keys) = (user.user_id().to_owned(), keys.clone());
            faults.push(lie_about_keys(homeserver, client, move |answer| {
                if answer["device_keys"].get(&owner).is_some() {
                    answer["device_keys"][&owner][Self::DEVICE] = keys.clone();
                }
            })?);
            let owner = user.user_id().to_owned();
            let (id, package) = peer.published_key_package();
            let target = Target::path("/keys/claim").user(client.user_id());
            faults.push(controls.tamper(target, move |answer| {
                answer["one_time_keys"][&owner][Self::DEVICE] = json!({ &id: package });
            }));
        }
        Ok(Self { faults })
    }

    pub fn stop(self) {
        self.faults.iter().for_each(Fault::stop);
    }
}

pub async fn is_member(of: &Client, room: &str, device: &str) -> Result<bool> {
    Ok(of.members(room).await?.iter().any(|member| member.device_id == device))
}

pub async fn is_member_of_user(of: &Client, room: &str, user: &Client) -> Result<bool> {
    Ok(of.members(room).await?.iter().any(|member| member.user_id == user.user_id()))
}

pub async fn look_again(client: &Client) -> Result {
    client.machine()?.doubt_device_lists().await?;
    client.drive().await?;
    Ok(())
}

pub async fn identity_of(client: &Client, user: &Client) -> Result<UserIdentity> {
    let identity = client.machine()?.user_identity(user.user_id().to_owned()).await?;
    identity.or_missing("identity")
}

pub async fn listening(client: &Client) -> Result<(Arc<Heard>, Arc<UpdateSubscription>)> {
    Heard::of(client).await
}

pub fn not_cross_signed(device: &str) -> impl Fn(&Update) -> bool + use<'_> {
    move |update| {
        matches!(update, Update::DeviceRejected { device_id, code, .. }
            if device_id == device && code == "not_cross_signed")
    }
}

pub fn changed(user: &Client) -> impl Fn(&Update) -> bool + use<'_> {
    move |update| matches!(update, Update::IdentityChanged { user_id } if user_id == user.user_id())
}

/// Alice and Bob in a room. Bob has an identity, and Alice knows it.
pub async fn with_identity(
    homeserver: &Homeserver,
) -> Result<(Client, Client, String, CrossSigning)> {
    let (alice, bob, room) = pair(homeserver).await;
    let identity = CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok((alice, bob, room, identity))
}
