//! Alice and Bob in a room, both with a cross-signing identity: what tests of verdicts and of a
//! homeserver's lies about identities begin with.

use eyre::ensure;
use matrix_mls::{MlsError, UserIdentity, Verdict, VerificationStatus};

use serde_json::{Value, json};

use crate::{
    Client, Fault, Homeserver, OrMissing as _, Refused as _, Result,
    cross_signing::CrossSigning,
    together::{lie_about_keys, pair, quiet},
};

/// Alice and Bob, and their identities. Alice's phone knows her own for sure.
pub struct TwoIdentities {
    /// Where they are.
    pub homeserver: Homeserver,
    /// Alice's phone.
    pub alice: Client,
    /// Bob's phone.
    pub bob: Client,
    /// Their room.
    pub room: String,
    /// Alice's identity.
    pub of_alice: CrossSigning,
    /// Bob's identity.
    pub of_bob: CrossSigning,
}

impl TwoIdentities {
    /// Neither has verified the other.
    pub async fn new() -> Result<Self> {
        let homeserver = Homeserver::embedded()?;
        let (alice, bob, room) = pair(&homeserver).await;
        let (of_alice, of_bob) = identify(&alice, &bob).await?;
        Ok(Self { homeserver, alice, bob, room, of_alice, of_bob })
    }

    /// Alice verifies Bob.
    pub async fn verify_bob(&self) -> Result {
        verify(&self.alice, &self.of_alice, &self.bob).await
    }

    /// Bob's identity, as Alice's phone knows it.
    pub async fn bob_as_seen(&self) -> Result<UserIdentity> {
        as_seen(&self.alice, &self.bob).await
    }

    /// What Alice's phone says of Bob's.
    pub async fn verdict_of_bob(&self) -> Result<Verdict> {
        let (user, device) = (self.bob.user_id().to_owned(), self.bob.device_id().to_owned());
        Ok(self.alice.machine()?.device_verdict(user, device).await?)
    }

    /// What the homeserver says to Alice of Bob now.
    pub async fn answer_about_bob(&self) -> Result<Value> {
        let query = json!({ "device_keys": { self.bob.user_id(): [] } });
        Ok(self.alice.http().post("/_matrix/client/v3/keys/query", query).await?)
    }

    /// Alice's answers of `/keys/query` are changed from now on.
    pub fn lie_to_alice(
        &self,
        change: impl Fn(&mut Value) + Send + Sync + 'static,
    ) -> Result<Fault> {
        lie_about_keys(&self.homeserver, &self.alice, change)
    }

    /// Alice is told this of Bob from now on, and looks.
    pub async fn replay_bob(&self, old: &Value) -> Result<Fault> {
        let (user, old) = (self.bob.user_id().to_owned(), old.clone());
        let fault = self.lie_to_alice(move |answer| {
            for part in ["device_keys", "master_keys", "self_signing_keys"] {
                answer[part][&user] = old[part][&user].clone();
            }
        })?;
        self.alice.look_again().await?;
        Ok(fault)
    }

    /// Alice is told that this is Bob's identity, and looks.
    pub async fn replace_bob(&self, by: &CrossSigning) -> Result<Fault> {
        let (user, published) = (self.bob.user_id().to_owned(), by.published()?);
        let fault = self.lie_to_alice(move |answer| {
            answer["master_keys"][&user] = published["master_key"].clone();
            answer["self_signing_keys"][&user] = published["self_signing_key"].clone();
        })?;
        self.alice.look_again().await?;
        Ok(fault)
    }

    /// The error that stops Alice's next message: its code, and the users whom it names.
    pub async fn stopped(&self) -> Result<(String, Vec<String>)> {
        let error = self.alice.room(&self.room).await?.prepare_to_send().await.refused()?;
        match error {
            MlsError::UntrustedMembers { user_ids, details } if !details.retryable => {
                Ok((details.code, user_ids))
            }
            other => Err(other.into()),
        }
    }
}

/// Gives Alice and Bob, who are in a room, an identity each. Alice's phone knows hers for sure.
pub async fn identify(alice: &Client, bob: &Client) -> Result<(CrossSigning, CrossSigning)> {
    let of_alice = CrossSigning::bootstrap(alice).await?;
    let of_bob = CrossSigning::bootstrap(bob).await?;
    quiet(&[alice, bob]).await;
    alice.machine()?.confirm_own_identity(of_alice.master_key()).await?;
    Ok((of_alice, of_bob))
}

/// Alice verifies Bob, and her phone knows it.
pub async fn verify(alice: &Client, of_alice: &CrossSigning, bob: &Client) -> Result {
    of_alice.verify_user(alice.http(), bob.user_id()).await?;
    quiet(&[alice, bob]).await;
    let verification = as_seen(alice, bob).await?.verification;
    ensure!(verification == VerificationStatus::Verified, "Bob is {verification:?}");
    Ok(())
}

async fn as_seen(alice: &Client, bob: &Client) -> Result<UserIdentity> {
    let identity = alice.machine()?.user_identity(bob.user_id().to_owned()).await?;
    identity.or_missing("Bob's identity")
}
