//! The media repository.

use matrix_mls_kit::{Answer, Homeserver, Http, KitError, OrMissing as _, Result};
use serde_json::{Value, json};

use super::device::Device;

const UPLOAD: &str = "/_matrix/media/v3/upload";
const BYTES: &str = "application/octet-stream";

/// Where a blob is downloaded.
fn place(uri: &str) -> String {
    let name = uri.trim_start_matches("mxc://");
    format!("/_matrix/client/v1/media/download/{name}")
}

async fn upload(device: &Device, kind: &str, bytes: Vec<u8>) -> Result<String, KitError> {
    let answer = device.http.send("POST", UPLOAD, kind, bytes).await?;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    Ok(answer.json()["content_uri"].as_str().unwrap_or_default().to_owned())
}

async fn download(http: &Http, uri: &str) -> Result<Answer, KitError> {
    http.send("GET", &place(uri), "", Vec::new()).await
}

fn refusal(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.json()["errcode"].clone())
}

/// Every byte there is, and no valid UTF-8.
fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * at / 7 + at) as u8).collect()
}

pub async fn media_comes_back_to_the_byte(server: &Homeserver) -> Result {
    let alice = Device::register(server, "media-alice").await?;
    let bob = Device::register(server, "media-bob").await?;
    for length in [0, 1, 70_000, 3_000_000] {
        let uri = upload(&alice, BYTES, noise(length)).await?;
        let (_, server_name) = alice.user_id.split_once(':').unwrap_or_default();
        assert!(uri.starts_with(&format!("mxc://{server_name}/")), "{uri}");
        // Whoever is logged in may have it.
        let answer = download(&bob.http, &uri).await?;
        assert_eq!(answer.status, 200);
        assert!(answer.body == noise(length), "{length} bytes come back as they were");
        let named = download(&bob.http, &format!("{uri}/tree.bin")).await?;
        assert!(named.status == 200 && named.body == answer.body);
    }
    // What it says it is makes no difference, and each upload is new.
    let image = upload(&alice, "image/png", b"no image".to_vec()).await?;
    let again = upload(&alice, "image/png", b"no image".to_vec()).await?;
    assert_ne!(image, again);
    assert_eq!(download(&bob.http, &image).await?.body, b"no image");
    Ok(())
}

pub async fn media_needs_a_login(server: &Homeserver) -> Result {
    let alice = Device::register(server, "media-login").await?;
    let uri = upload(&alice, BYTES, noise(10)).await?;
    let nobody = Http::new(server.base_url(), "nobody")?;
    let missing = (401, json!("M_MISSING_TOKEN"));
    assert_eq!(refusal(&download(&nobody, &uri).await?), missing);
    let sent = nobody.send("POST", UPLOAD, BYTES, noise(10)).await?;
    assert_eq!(refusal(&sent), missing);
    alice.post("/logout", json!({})).await?;
    let unknown = (401, json!("M_UNKNOWN_TOKEN"));
    assert_eq!(refusal(&download(&alice.http, &uri).await?), unknown);
    let sent = alice.http.send("POST", UPLOAD, BYTES, noise(10)).await?;
    assert_eq!(refusal(&sent), unknown);
    Ok(())
}

pub async fn unknown_media_is_not_found(server: &Homeserver) -> Result {
    let alice = Device::register(server, "media-unknown").await?;
    let (_, server_name) = alice.user_id.split_once(':').unwrap_or_default();
    let unknown = download(&alice.http, &format!("mxc://{server_name}/nothingofthatname")).await?;
    assert_eq!(refusal(&unknown), (404, json!("M_NOT_FOUND")));
    let foreign = download(&alice.http, "mxc://elsewhere.test/nothingofthatname").await?;
    assert_eq!(refusal(&foreign), (403, json!("M_FORBIDDEN")));
    let verb = alice.http.send("GET", UPLOAD, "", Vec::new()).await?;
    assert_eq!(refusal(&verb), (405, json!("M_UNRECOGNIZED")));
    Ok(())
}

pub async fn media_is_limited_in_size(server: &Homeserver) -> Result {
    let alice = Device::register(server, "media-large").await?;
    let config = alice.http.get("/_matrix/client/v1/media/config").await?;
    let limit = config["m.upload.size"].as_u64().or_missing("limit")?;
    let limit = usize::try_from(limit)?;
    let largest = alice.http.send("POST", UPLOAD, BYTES, vec![b'x'; limit]).await?;
    assert_eq!(largest.status, 200);
    let refused = alice.http.send("POST", UPLOAD, BYTES, vec![b'x'; limit + 1]).await?;
    assert_eq!(refusal(&refused), (413, json!("M_TOO_LARGE")));
    Ok(())
}
