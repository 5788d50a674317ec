//! Scenarios: what the client publishes of itself.

use openmls::prelude::{
    ExtensionType, KeyPackageIn, OpenMlsCrypto as _, OpenMlsProvider as _, ProtocolVersion,
    SignatureScheme,
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};
use tls_codec::{DeserializeBytes as _, Serialize as _};

use super::stage::{Stage, Tested};
use crate::{
    Client, Fields as _, OrMissing as _, Result,
    clock::Clock,
    peer::{ALGORITHM, KEY_PACKAGE, from_base64, identity},
    schema,
};

/// More one-time packages than a client publishes.
const MANY: usize = 300;
const DAY: u64 = 86_400;

/// The client's device keys, as another account sees them.
pub async fn device_keys(alice: &Client, tested: &Tested) -> Result<Value> {
    let asked = json!({ "device_keys": { &tested.user_id: [] } });
    let answer = alice.http().post("/_matrix/client/v3/keys/query", asked).await?;
    Ok(answer["device_keys"][&tested.user_id][&tested.device_id].clone())
}

/// A key package of the client's: its key id and its value.
pub async fn claim(alice: &Client, tested: &Tested) -> Result<Option<(String, Value)>> {
    let asked = json!({ "one_time_keys": { &tested.user_id: { &tested.device_id: KEY_PACKAGE } } });
    let answer = alice.http().post("/_matrix/client/v3/keys/claim", asked).await?;
    let keys = answer["one_time_keys"][&tested.user_id][&tested.device_id].as_object();
    let key = keys.and_then(|keys| keys.iter().next());
    Ok(key.map(|(id, value)| (id.clone(), value.clone())))
}

/// Takes all one-time packages of the client's, until its fallback package has come twice.
pub async fn claim_all(alice: &Client, tested: &Tested) -> Result<Vec<(String, Value)>> {
    let mut packages: Vec<(String, Value)> = Vec::new();
    while packages.len() < MANY {
        let Some(package) = claim(alice, tested).await? else { break };
        if packages.contains(&package) {
            break;
        }
        packages.push(package);
    }
    Ok(packages)
}

pub async fn publishes_device_keys(stage: &Stage) -> Result {
    let alice = stage.phone("alice").await?;
    let tested = stage.client().await?;
    let keys = device_keys(&alice, &tested).await?;
    let names = [
        format!("ed25519:{}", tested.device_id),
        format!("org.matrix.msc2883.v1.dmls.credential.ed25519:{}", tested.device_id),
    ];
    stage.equal("`user_id`", &json!(tested.user_id), &keys["user_id"])?;
    stage.equal("`device_id`", &json!(tested.device_id), &keys["device_id"])?;
    let is_published = keys["keys"][&names[1]].is_string();
    let signing: &[String] = if is_published {
        let mut own = keys.clone();
        // What the homeserver adds is not the client's.
        own.object_mut("signatures")?.retain(|user, _| *user == tested.user_id);
        if let Some(own) = own.as_object_mut() {
            own.remove("unsigned");
        }
        let fits = schema::fits("device_keys", &own);
        stage.holds("`device_keys`", "what fits the schema", &fits, fits.is_ok())?;
        stage.equal(
            "the MLS key under both names",
            &keys["keys"][&names[0]],
            &keys["keys"][&names[1]],
        )?;
        let algorithms = keys["algorithms"].as_array().cloned().unwrap_or_default();
        let is_named = algorithms.contains(&json!(ALGORITHM));
        stage.holds("`algorithms`", "the room algorithm among them", &algorithms, is_named)?;
        &names
    } else {
        // Beside Olm: the binding is in the leaves.
        &names[..1]
    };
    let mut text = keys.clone();
    if let Some(object) = text.as_object_mut() {
        object.remove("signatures");
        object.remove("unsigned");
    }
    let text: CanonicalJsonObject = serde_json::from_value(text)?;
    let text = serde_json::to_string(&text)?;
    for name in signing {
        let signature = keys["signatures"][&tested.user_id][name].as_str().unwrap_or_default();
        let key = keys["keys"][name].as_str().unwrap_or_default();
        let verified = OpenMlsRustCrypto::default().crypto().verify_signature(
            SignatureScheme::ED25519,
            text.as_bytes(),
            &from_base64(key),
            &from_base64(signature),
        );
        let what = format!("the signature under `{name}`");
        stage.holds(&what, "one that verifies", signature, verified.is_ok())?;
    }
    Ok(())
}

pub async fn publishes_key_packages(stage: &Stage) -> Result {
    let alice = stage.phone("alice").await?;
    let tested = stage.client().await?;
    let keys = device_keys(&alice, &tested).await?;
    let published = keys["keys"]
        [format!("org.matrix.msc2883.v1.dmls.credential.ed25519:{}", tested.device_id)]
    .as_str()
    .map(from_base64);
    let packages = claim_all(&alice, &tested).await?;
    let count = packages.len();
    stage.holds("how many packages it has published", "some", count, (2..MANY).contains(&count))?;
    let provider = OpenMlsRustCrypto::default();
    let now = Clock::today_ms() / 1000;
    for (number, (id, value)) in packages.iter().enumerate() {
        let what = |of: &str| format!("{of} of key package {number}");
        let text = value.as_str();
        stage.holds(&what("the value"), "a text", value, text.is_some())?;
        let bytes = from_base64(text.unwrap_or_default().trim_end_matches('='));
        let package = KeyPackageIn::tls_deserialize_exact_bytes(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|package| {
                let valid = package.validate(provider.crypto(), ProtocolVersion::Mls10);
                valid.map_err(|error| error.to_string())
            });
        let seen = package.as_ref().map(|_| "one").map_err(Clone::clone);
        let expected = "a valid KeyPackage (RFC 9420 §10), which is no MLSMessage";
        stage.holds(&what("the value"), expected, &seen, seen.is_ok())?;
        let package = package.ok().or_missing("key package")?;
        let reference = crate::peer::base64(package.hash_ref(provider.crypto())?.as_slice());
        stage.equal(&what("the key id"), &format!("{KEY_PACKAGE}:{reference}"), id)?;
        let leaf = package.leaf_node();
        let named = identity(&tested.user_id, &tested.device_id);
        let seen = leaf.credential().serialized_content().to_vec();
        stage.equal(&what("the credential's identity"), &named, &seen)?;
        if let Some(published) = &published {
            let key = leaf.signature_key().as_slice().to_vec();
            stage.equal(&what("the signature key"), published, &key)?;
        }
        let lifetime = package.life_time();
        let (from, to) = (lifetime.not_before(), lifetime.not_after());
        let fits = from <= now && to >= now + 60 * DAY && to - from <= 100 * 366 * DAY;
        let expected = "one that has begun, with 60 days left and at most 100 years long";
        stage.holds(&what("the lifetime"), expected, (from, to), fits)?;
        // The fallback key comes last.
        let is_last = number + 1 == count;
        stage.equal(&what("whether `last_resort` is there"), &is_last, &package.last_resort())?;
        let listed = leaf.capabilities().extensions().to_vec();
        let lists = !is_last || listed.contains(&ExtensionType::LastResort);
        let expected = "that they list the extensions of the package";
        let listed: Result<Vec<Vec<u8>>, _> =
            listed.iter().map(|kind| kind.tls_serialize_detached()).collect();
        stage.holds(&what("the capabilities"), expected, listed?, lists)?;
    }
    Ok(())
}

pub async fn is_added_by_its_last_resort_package(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    let taken = claim_all(&meeting.alice, &meeting.tested).await?.len();
    stage.holds("how many packages are used up", "all", taken, taken < MANY)?;
    // The client does not sync meanwhile, so it publishes no others.
    let mut rooms = Vec::new();
    for text in ["in a second room", "in a third room"] {
        let room = meeting.alice.create_room(&[]).await?;
        meeting.alice.invite(&room, &meeting.tested.user_id).await?;
        meeting.alice.settle().await?;
        meeting.alice.enable(&room, Default::default()).await?;
        meeting.alice.send_text(&room, text).await?;
        meeting.alice.settle().await?;
        let members = meeting.alice.members(&room).await?.len();
        stage.equal("how many devices could be added to a room", &2, &members)?;
        rooms.push((room, text));
    }
    for (room, text) in rooms {
        meeting.room = room;
        meeting.tested.does(&format!("join {}", meeting.room)).await?;
        meeting.tested.settle().await?;
        meeting.tested_reads(text, 1).await?;
        meeting.talk().await?;
    }
    Ok(())
}
