//! An Olm machine beside a client, as far as this library meets one: its Ed25519 key, the device
//! keys that it publishes, and its `sign`. It shares no code with the library under test.

use std::collections::HashMap;

use eyre::eyre;
use matrix_mls::Publishing;
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::signatures::Signer as _;
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};

use crate::{
    Client, ClientOptions, Homeserver, Http, OrMissing as _, Result,
    peer::{Peer, PeerBinding, base64, new_signer},
};

/// The Olm machine of one device.
pub struct Olm {
    user: String,
    device: String,
    key: SignatureKeyPair,
}

impl Olm {
    /// A new one.
    pub fn new(user: &str, device: &str) -> Self {
        Self { user: user.to_owned(), device: device.to_owned(), key: new_signer() }
    }

    /// Its Ed25519 key in base64.
    pub fn key(&self) -> String {
        base64(self.key.public())
    }

    /// What it publishes, signed by itself.
    pub fn device_keys(&self) -> Result<Value> {
        let id = self.key_id();
        let mut keys = json!({
            "user_id": self.user,
            "device_id": self.device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": { &id: self.key(), format!("curve25519:{}", self.device): base64(&[7; 32]) },
        });
        let canonical: CanonicalJsonObject = serde_json::from_value(keys.clone())?;
        let signature = self.signature(&serde_json::to_string(&canonical)?)?;
        keys["signatures"] = json!({ &self.user: { id: base64(&signature) } });
        Ok(keys)
    }

    /// Publishes its device keys.
    pub async fn upload(&self, http: &Http) -> Result {
        let body = json!({ "device_keys": self.device_keys()? });
        http.post("/_matrix/client/v3/keys/upload", body).await?;
        Ok(())
    }

    /// Signs as an Olm machine does: with its device's key, and with a master key that it has too.
    pub fn sign(&self, text: &str) -> Result<HashMap<String, HashMap<String, String>>> {
        let master = new_signer();
        let by_master = master.sign(text.as_bytes()).map_err(|error| eyre!("{error:?}"))?;
        let of_user = HashMap::from([
            (self.key_id(), base64(&self.signature(text)?)),
            (format!("ed25519:{}", base64(master.public())), base64(&by_master)),
        ]);
        Ok(HashMap::from([(self.user.clone(), of_user)]))
    }

    /// The signature that binds an MLS key to its device.
    pub fn binding(&self, mls_key: &[u8]) -> Result<Vec<u8>> {
        let object = json!({
            "type": "org.matrix.msc2883.v1.dmls.binding",
            "user_id": self.user, "device_id": self.device, "mls_key": base64(mls_key),
        });
        let canonical: CanonicalJsonObject = serde_json::from_value(object)?;
        self.signature(&serde_json::to_string(&canonical)?)
    }

    /// Binds a client of its device.
    pub async fn bind(&self, client: &Client) -> Result {
        let text = client.machine()?.binding_to_sign().await?.or_missing("binding to sign")?;
        client.machine()?.bind_device(self.key(), self.sign(&text)?).await?;
        Ok(())
    }

    /// A peer of its device, with its binding in each leaf.
    pub fn peer(&self) -> Result<Peer> {
        let mut peer = Peer::new(&self.user, &self.device);
        let bytes = self.binding(peer.signer.public())?;
        peer.binding = Some(PeerBinding { bytes, is_listed: true });
        Ok(peer)
    }

    fn key_id(&self) -> String {
        format!("ed25519:{}", self.device)
    }

    fn signature(&self, text: &str) -> Result<Vec<u8>> {
        self.key.sign(text.as_bytes()).map_err(|error| eyre!("{error:?}"))
    }
}

/// How a client beside an Olm machine is set up.
pub fn beside_olm() -> ClientOptions {
    ClientOptions { publishing: Publishing::BesideOlm, ..ClientOptions::default() }
}

/// The first phone of a new account, which has published its Olm machine's keys and nothing of MLS.
pub async fn olm_phone(homeserver: &Homeserver, username: &str) -> Result<(Client, Olm)> {
    let client = Client::register_with(homeserver, username, "PHONE", beside_olm()).await?;
    let olm = Olm::new(client.user_id(), client.device_id());
    olm.upload(client.http()).await?;
    client.settle().await?;
    Ok((client, olm))
}

/// The same, with its binding and its key packages.
pub async fn bound_phone(homeserver: &Homeserver, username: &str) -> Result<(Client, Olm)> {
    let (client, olm) = olm_phone(homeserver, username).await?;
    olm.bind(&client).await?;
    client.settle().await?;
    Ok((client, olm))
}
