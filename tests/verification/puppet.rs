//! The other side of a verification, played by hand: it shares no code with the library but
//! vodozemac's key agreement.

use std::collections::BTreeMap;

use matrix_mls::{MlsMachine, SyncChanges, Verification, VerificationInfo, VerificationState};
use matrix_mls_kit::{Client, OrMissing as _, Result, bail, feed, peer::base64};
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use vodozemac::{
    Curve25519PublicKey,
    sas::{EstablishedSas, Sas},
};

/// An event that a device has sent to devices.
#[derive(Debug, Clone)]
pub struct Sent {
    pub event_type: String,
    pub content: Value,
    pub devices: Vec<String>,
}

/// What a client's machine wants sent of verifications. The homeserver takes it, and delivers
/// nothing. Whatever else the machine wants is sent.
pub async fn sent_by(client: &Client) -> Result<Vec<Sent>> {
    let mut sent = Vec::new();
    loop {
        let requests = client.machine()?.outgoing_requests().await?;
        if requests.is_empty() {
            return Ok(sent);
        }
        for request in requests {
            let Some((_, rest)) = request.path.split_once("/sendToDevice/") else {
                client.send_request(&request).await?;
                continue;
            };
            let event_type = rest.split('/').next().unwrap_or_default().to_owned();
            let body: Value = serde_json::from_slice(&request.body)?;
            let users = body["messages"].as_object().or_missing("messages")?;
            let devices = users.values().next().and_then(Value::as_object).or_missing("devices")?;
            let content = devices.values().next().or_missing("a content")?.clone();
            let devices = devices.keys().cloned().collect();
            sent.push(Sent { event_type, content, devices });
            client.machine()?.mark_request_as_sent(request.id, 200, b"{}".to_vec()).await?;
        }
    }
}

/// The one event that a client has sent.
pub async fn only_sent(client: &Client) -> Result<Sent> {
    let mut sent = sent_by(client).await?;
    if sent.len() != 1 {
        bail!("not one event: {sent:?}");
    }
    sent.pop().or_missing("an event")
}

/// The code of the one cancellation that a client has sent.
pub async fn cancelled_with(client: &Client) -> Result<String> {
    let Sent { event_type, content, .. } = only_sent(client).await?;
    assert_eq!(event_type, "m.key.verification.cancel");
    Ok(content["code"].as_str().or_missing("code")?.to_owned())
}

/// Gives a client a to-device event, as its homeserver would.
pub async fn give(client: &Client, sender: &str, event_type: &str, content: &Value) -> Result {
    let event = json!({ "type": event_type, "sender": sender, "content": content });
    let sync = SyncChanges { to_device: vec![event.to_string()], ..feed() };
    client.machine()?.receive_sync(sync).await?;
    Ok(())
}

pub fn now_ms() -> u64 {
    let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    age.map(|age| u64::try_from(age.as_millis()).unwrap_or_default()).unwrap_or_default()
}

pub async fn info(verification: &Verification) -> Result<VerificationInfo> {
    Ok(verification.info().await?)
}

/// The code with which a verification was cancelled.
pub async fn code_of(verification: &Verification) -> Result<String> {
    match info(verification).await?.state {
        VerificationState::Cancelled { code, .. } => Ok(code),
        state => bail!("not cancelled: {state:?}"),
    }
}

/// The one verification that somebody else has begun, and that goes on.
pub async fn incoming(machine: &Arc<MlsMachine>) -> Result<Arc<Verification>> {
    let all = machine.verifications().await?;
    let mut incoming = all.into_iter().filter(|info| info.is_incoming);
    let info = incoming.next().or_missing("an incoming verification")?;
    assert_eq!(incoming.next(), None);
    Ok(machine.verification(info.id))
}

/// A device of somebody's that does what a test wants.
pub struct Puppet {
    pub user: String,
    pub device: String,
    /// Its Ed25519 key, as its homeserver hands it out.
    pub ed25519: String,
    pub transaction: String,
    sas: Option<Sas>,
    shared: Option<EstablishedSas>,
    pub public: String,
}

impl Puppet {
    /// In the place of a client.
    pub async fn of(client: &Client, transaction: &str) -> Result<Self> {
        let (user, device) = (client.user_id(), client.device_id());
        let query = json!({ "device_keys": { user: [device] } });
        let answer = client.http().post("/_matrix/client/v3/keys/query", query).await?;
        let key = &answer["device_keys"][user][device]["keys"][format!("ed25519:{device}")];
        let sas = Sas::new();
        Ok(Self {
            user: user.to_owned(),
            device: device.to_owned(),
            ed25519: key.as_str().or_missing("a key")?.to_owned(),
            transaction: transaction.to_owned(),
            public: sas.public_key().to_base64(),
            sas: Some(sas),
            shared: None,
        })
    }

    /// Sends one event of the verification.
    pub async fn give(&self, to: &Client, kind: &str, mut content: Value) -> Result {
        content["transaction_id"] = json!(self.transaction);
        give(to, &self.user, &format!("m.key.verification.{kind}"), &content).await
    }

    pub async fn request(&self, to: &Client) -> Result {
        self.give(to, "request", self.request_content()).await
    }

    pub fn request_content(&self) -> Value {
        json!({ "from_device": self.device, "methods": ["m.sas.v1"], "timestamp": now_ms() })
    }

    pub async fn ready(&self, to: &Client) -> Result {
        let content = json!({ "from_device": self.device, "methods": ["m.sas.v1"] });
        self.give(to, "ready", content).await
    }

    pub fn start_content(&self) -> Value {
        json!({
            "from_device": self.device,
            "method": "m.sas.v1",
            "hashes": ["sha256"],
            "key_agreement_protocols": ["curve25519-hkdf-sha256"],
            "message_authentication_codes": ["hkdf-hmac-sha256.v2", "hkdf-hmac-sha256"],
            "short_authentication_string": ["decimal", "emoji"],
            "transaction_id": self.transaction,
        })
    }

    /// What binds this side to its key, in answer to a start.
    pub fn commitment(&self, start: &Value) -> Result<String> {
        let start: CanonicalJsonObject = serde_json::from_value(start.clone())?;
        let start = serde_json::to_string(&start)?;
        let hash = Sha256::digest(format!("{}{start}", self.public).as_bytes());
        Ok(base64(hash.as_slice()))
    }

    pub fn accept_content(&self, commitment: &str) -> Value {
        json!({
            "method": "m.sas.v1",
            "hash": "sha256",
            "key_agreement_protocol": "curve25519-hkdf-sha256",
            "message_authentication_code": "hkdf-hmac-sha256.v2",
            "short_authentication_string": ["decimal", "emoji"],
            "commitment": commitment,
        })
    }

    pub async fn key(&self, to: &Client) -> Result {
        self.give(to, "key", json!({ "key": self.public })).await
    }

    /// Takes in the other side's key.
    pub fn agree(&mut self, key: &Value) -> Result {
        let key = Curve25519PublicKey::from_base64(key.as_str().or_missing("key")?)?;
        let sas = self.sas.take().or_missing("a key of its own")?;
        self.shared = Some(sas.diffie_hellman(key)?);
        Ok(())
    }

    /// The decimals that this side shows.
    pub fn decimals(&self, with: &Client, started: bool) -> Result<Vec<u16>> {
        let shared = self.shared.as_ref().or_missing("a shared key")?;
        let side = |user: &str, device: &str, key: String| format!("{user}|{device}|{key}");
        let own = side(&self.user, &self.device, shared.our_public_key().to_base64());
        let other = side(with.user_id(), with.device_id(), shared.their_public_key().to_base64());
        let (first, second) = if started { (own, other) } else { (other, own) };
        let info = format!("MATRIX_KEY_VERIFICATION_SAS|{first}|{second}|{}", self.transaction);
        let (first, second, third) = shared.bytes(&info).decimals();
        Ok(vec![first, second, third])
    }

    /// MACs of these keys, by their ids without the algorithm.
    pub fn mac_content(&self, with: &Client, keys: &[(&str, &str)]) -> Result<Value> {
        let shared = self.shared.as_ref().or_missing("a shared key")?;
        let info = format!(
            "MATRIX_KEY_VERIFICATION_MAC{}{}{}{}{}",
            self.user,
            self.device,
            with.user_id(),
            with.device_id(),
            self.transaction
        );
        let mut macs = BTreeMap::new();
        for (id, key) in keys {
            let id = format!("ed25519:{id}");
            let mac = shared.calculate_mac(key, &format!("{info}{id}")).to_base64();
            macs.insert(id, mac);
        }
        let ids: Vec<&str> = macs.keys().map(String::as_str).collect();
        let keys = shared.calculate_mac(&ids.join(","), &format!("{info}KEY_IDS")).to_base64();
        Ok(json!({ "mac": macs, "keys": keys }))
    }

    /// Goes as far as the comparison: the client has asked this device, which begins.
    pub async fn until_comparing(&mut self, with: &Client) -> Result<Arc<Verification>> {
        let verification = with.machine()?.request_verification(self.user.clone(), None).await?;
        let request = only_sent(with).await?;
        self.transaction =
            request.content["transaction_id"].as_str().or_missing("transaction")?.to_owned();
        self.ready(with).await?;
        self.give(with, "start", self.start_content()).await?;
        only_sent(with).await?;
        self.key(with).await?;
        let key = only_sent(with).await?;
        self.agree(&key.content["key"])?;
        Ok(verification)
    }
}
