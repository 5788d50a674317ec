//! A user's cross-signing identity, held by a test: the three keys, and what is signed with them.
//! It shares no code with the library under test.

use eyre::{bail, eyre};
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::signatures::Signer as _;
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};

use crate::{
    Client, Http, OrMissing as _, Result, password_auth,
    peer::{base64, new_signer},
};

/// The private keys of a user's identity.
pub struct CrossSigning {
    user: String,
    master: SignatureKeyPair,
    self_signing: SignatureKeyPair,
    user_signing: SignatureKeyPair,
}

impl CrossSigning {
    /// Three new keys.
    pub fn new(user: &str) -> Self {
        let [master, self_signing, user_signing] = [(); 3].map(|()| new_signer());
        Self { user: user.to_owned(), master, self_signing, user_signing }
    }

    /// A new identity of a client's user, which is published and has signed this client's device.
    pub async fn bootstrap(client: &Client) -> Result<Self> {
        let identity = Self::new(client.user_id());
        identity.upload(client.http()).await?;
        identity.sign(client).await?;
        Ok(identity)
    }

    /// Another self-signing key, which the same master key has signed.
    pub fn replace_self_signing(&mut self) {
        self.self_signing = new_signer();
    }

    /// Another user-signing key, which the same master key has signed.
    pub fn replace_user_signing(&mut self) {
        self.user_signing = new_signer();
    }

    /// The public master key.
    pub fn master_key(&self) -> String {
        base64(self.master.public())
    }

    /// The public self-signing key.
    pub fn self_signing_key(&self) -> String {
        base64(self.self_signing.public())
    }

    /// The public user-signing key.
    pub fn user_signing_key(&self) -> String {
        base64(self.user_signing.public())
    }

    /// The three objects, as `/keys/device_signing/upload` takes them.
    pub fn published(&self) -> Result<Value> {
        let object = |usage: &str, key: &SignatureKeyPair| {
            let key = base64(key.public());
            json!({
                "user_id": self.user, "usage": [usage], "keys": { format!("ed25519:{key}"): key },
            })
        };
        let signed = |usage, key| self.signed_by(object(usage, key), &self.master);
        Ok(json!({
            "master_key": object("master", &self.master),
            "self_signing_key": signed("self_signing", &self.self_signing)?,
            "user_signing_key": signed("user_signing", &self.user_signing)?,
        }))
    }

    /// Publishes the keys, and gives the password of a test account where that is asked for.
    pub async fn upload(&self, http: &Http) -> Result {
        let path = "/_matrix/client/v3/keys/device_signing/upload";
        let mut body = self.published()?;
        let first = http.try_json("POST", path, body.clone()).await?;
        if first.status == 401
            && let Some(session) = first.json()["session"].as_str()
        {
            body["auth"] = password_auth(&self.user, session);
        }
        if first.status != 200 {
            http.post(path, body).await?;
        }
        Ok(())
    }

    /// Device keys with this identity's signature.
    pub fn sign_device(&self, device_keys: Value) -> Result<Value> {
        self.signed_by(device_keys, &self.self_signing)
    }

    /// Signs a client's device, as the homeserver has it.
    pub async fn sign(&self, client: &Client) -> Result {
        let (user, device) = (client.user_id(), client.device_id());
        let query = json!({ "device_keys": { user: [device] } });
        let mut answer = client.http().post("/_matrix/client/v3/keys/query", query).await?;
        let keys = answer["device_keys"][user][device].take();
        keys.as_object().or_missing("published device keys")?;
        let body = json!({ user: { device: self.sign_device(keys)? } });
        let answer = client.http().post("/_matrix/client/v3/keys/signatures/upload", body).await?;
        if answer["failures"].as_object().is_none_or(|failures| !failures.is_empty()) {
            bail!("the signature of {user} {device} is not taken: {answer}");
        }
        Ok(())
    }

    /// Another user's master key with this identity's signature.
    pub fn sign_user(&self, master_key: Value) -> Result<Value> {
        self.signed_by(master_key, &self.user_signing)
    }

    /// Verifies another user: signs the master key that the homeserver has of theirs.
    pub async fn verify_user(&self, http: &Http, user: &str) -> Result {
        let query = json!({ "device_keys": { user: [] } });
        let mut answer = http.post("/_matrix/client/v3/keys/query", query).await?;
        let master = answer["master_keys"][user].take();
        let keys = master["keys"].as_object().or_missing("published master key")?;
        let key = keys.values().next().and_then(Value::as_str).or_missing("key")?.to_owned();
        let body = json!({ user: { key: self.sign_user(master)? } });
        let answer = http.post("/_matrix/client/v3/keys/signatures/upload", body).await?;
        if answer["failures"].as_object().is_none_or(|failures| !failures.is_empty()) {
            bail!("the signature of {user} is not taken: {answer}");
        }
        Ok(())
    }

    fn signed_by(&self, mut object: Value, key: &SignatureKeyPair) -> Result<Value> {
        let mut bare: CanonicalJsonObject = serde_json::from_value(object.clone())?;
        bare.remove("signatures");
        bare.remove("unsigned");
        let signature = key.sign(serde_json::to_string(&bare)?.as_bytes());
        let signature = base64(&signature.map_err(|error| eyre!("{error:?}"))?);
        let id = format!("ed25519:{}", base64(key.public()));
        object["signatures"][&self.user][id] = json!(signature);
        Ok(object)
    }
}
