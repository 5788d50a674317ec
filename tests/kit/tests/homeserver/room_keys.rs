//! Server-side key backup.

use matrix_mls_kit::{Homeserver, OrMissing as _, Result};
use serde_json::{Value, json};

use super::device::Device;

/// A room's id need not be one that the user is in.
const ROOM: &str = "!backup:example.org";
/// The session ids of MSC4038 hold what a path has to escape.
const EPOCH: &str = "3|QGFsaWNlOmV4YW1wbGUub3JnfFBIT05F/+";
const ESCAPED: &str = "3%7CQGFsaWNlOmV4YW1wbGUub3JnfFBIT05F%2F%2B";

fn session(text: &str) -> Value {
    json!({
        "first_message_index": 0, "forwarded_count": 0, "is_verified": true,
        "session_data": { "iv": "AA", "ciphertext": text, "mac": "AA" },
    })
}

async fn create(device: &Device) -> Result<String> {
    let body = json!({
        "algorithm": "org.matrix.msc4038.v0.aes-hmac-sha2",
        "auth_data": { "iv": "AA", "mac": "AA", "private_key_salt": "salt" },
    });
    let answer = device.post("/room_keys/version", body).await?;
    Ok(answer["version"].as_str().or_missing("version")?.to_owned())
}

pub async fn versions_come_and_go(server: &Homeserver) -> Result {
    let alice = Device::register(server, "backup-versions").await?;
    let missing = (404, "M_NOT_FOUND".to_owned());
    assert_eq!(alice.refusal("GET", "/room_keys/version", json!({})).await?, missing);
    let first = create(&alice).await?;
    let info = alice.get("/room_keys/version").await?;
    assert_eq!(info["version"], *first);
    assert_eq!(info["algorithm"], "org.matrix.msc4038.v0.aes-hmac-sha2");
    assert_eq!(info["auth_data"], json!({ "iv": "AA", "mac": "AA", "private_key_salt": "salt" }));
    assert_eq!(info["count"], 0);
    let second = create(&alice).await?;
    assert_ne!(first, second);
    assert_eq!(alice.get("/room_keys/version").await?["version"], *second);
    assert_eq!(alice.get(&format!("/room_keys/version/{first}")).await?["version"], *first);
    let path = format!("/room_keys/version/{second}");
    assert_eq!(alice.ask("DELETE", &path, json!({})).await?.status, 200);
    // The one before is current again.
    assert_eq!(alice.get("/room_keys/version").await?["version"], *first);
    // Deleting again does nothing; what never was cannot be deleted.
    assert_eq!(alice.ask("DELETE", &path, json!({})).await?.status, 200);
    assert_eq!(alice.refusal("GET", &path, json!({})).await?, missing);
    let unknown = "/room_keys/version/1000";
    assert_eq!(alice.refusal("DELETE", unknown, json!({})).await?, missing);
    let path = format!("/room_keys/version/{first}");
    assert_eq!(alice.ask("DELETE", &path, json!({})).await?.status, 200);
    assert_eq!(alice.refusal("GET", "/room_keys/version", json!({})).await?, missing);
    Ok(())
}

pub async fn sessions_come_back_and_go(server: &Homeserver) -> Result {
    let alice = Device::register(server, "backup-sessions").await?;
    let version = create(&alice).await?;
    let all = format!("/room_keys/keys?version={version}");
    assert_eq!(alice.get(&all).await?, json!({ "rooms": {} }));
    let room = format!("/room_keys/keys/{ROOM}?version={version}");
    assert_eq!(alice.get(&room).await?, json!({ "sessions": {} }));
    let one = format!("/room_keys/keys/{ROOM}/{ESCAPED}?version={version}");
    let missing = (404, "M_NOT_FOUND".to_owned());
    assert_eq!(alice.refusal("GET", &one, json!({})).await?, missing);

    let rooms = json!({
        "rooms": { ROOM: { "sessions": { EPOCH: session("one"), "leaves|AA": session("two") } } }
    });
    let answer = alice.put(&all, rooms.clone()).await?;
    assert_eq!(answer["count"], 2);
    let etag = answer["etag"].clone();
    assert!(etag.is_string());
    // The same again changes nothing.
    assert_eq!(alice.put(&all, rooms.clone()).await?, json!({ "count": 2, "etag": etag }));
    assert_eq!(alice.get(&all).await?, rooms);
    assert_eq!(alice.get(&room).await?, rooms["rooms"][ROOM]);
    assert_eq!(alice.get(&one).await?, session("one"));
    assert_eq!(alice.get("/room_keys/version").await?["count"], 2);

    let answer = alice.ask("DELETE", &one, json!({})).await?;
    assert_eq!(answer.json()["count"], 1);
    assert_ne!(answer.json()["etag"], etag);
    assert_eq!(alice.refusal("GET", &one, json!({})).await?, missing);
    // Megabytes pass.
    let long = session(&"A".repeat(2_000_000));
    let rooms = json!({ "rooms": { ROOM: { "sessions": { EPOCH: long } } } });
    assert_eq!(alice.put(&all, rooms).await?["count"], 2);
    let other = Device::register(server, "backup-other").await?;
    assert_eq!(other.refusal("GET", &all, json!({})).await?, missing);
    Ok(())
}

pub async fn the_better_session_is_kept(server: &Homeserver) -> Result {
    let alice = Device::register(server, "backup-better").await?;
    let version = create(&alice).await?;
    let all = format!("/room_keys/keys?version={version}");
    let one = format!("/room_keys/keys/{ROOM}/{ESCAPED}?version={version}");
    let put = async |session: Value| -> Result<Value> {
        let rooms = json!({ "rooms": { ROOM: { "sessions": { EPOCH: session } } } });
        alice.put(&all, rooms).await?;
        Ok(alice.get(&one).await?["session_data"]["ciphertext"].clone())
    };
    let mut unverified = session("unverified");
    unverified["is_verified"] = false.into();
    assert_eq!(put(unverified.clone()).await?, "unverified");
    assert_eq!(put(session("verified")).await?, "verified");
    assert_eq!(put(session("another")).await?, "verified");
    assert_eq!(put(unverified).await?, "verified");
    Ok(())
}

pub async fn another_version_is_refused(server: &Homeserver) -> Result {
    let alice = Device::register(server, "backup-wrong").await?;
    let first = create(&alice).await?;
    let second = create(&alice).await?;
    let rooms = json!({ "rooms": { ROOM: { "sessions": { EPOCH: session("one") } } } });
    let path = format!("/room_keys/keys?version={first}");
    let answer = alice.ask("PUT", &path, rooms.clone()).await?;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["errcode"], "M_WRONG_ROOM_KEYS_VERSION");
    // Not the current one's name, whatever the field's is.
    assert_eq!(answer.json()["current_version"], *first);
    assert_ne!(first, second);
    let path = "/room_keys/keys?version=1000";
    let missing = (404, "M_NOT_FOUND".to_owned());
    assert_eq!(alice.refusal("PUT", path, rooms.clone()).await?, missing);
    assert_eq!(alice.refusal("GET", path, json!({})).await?, missing);
    // An old version can still be read.
    let path = format!("/room_keys/keys?version={first}");
    assert_eq!(alice.get(&path).await?, json!({ "rooms": {} }));
    let none = alice.refusal("PUT", "/room_keys/keys", rooms).await?;
    assert_eq!(none, (400, "M_MISSING_PARAM".to_owned()));
    Ok(())
}
