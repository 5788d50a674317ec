//! The media repository, as an app uses it for its own files.

use super::Client;
use crate::{Answer, KitError, http::segment};

impl Client {
    /// Uploads a blob. Returns its `mxc://` URI.
    pub async fn upload_media(&self, bytes: Vec<u8>) -> Result<String, KitError> {
        let path = "/_matrix/media/v3/upload";
        let answer = self.http.send("POST", path, "application/octet-stream", bytes).await?;
        let answer = self.success("POST", path, answer)?;
        self.text_field(path, &answer.json(), "content_uri")
    }

    /// Downloads a blob of any server.
    pub async fn download_media(&self, uri: &str) -> Result<Vec<u8>, KitError> {
        let named = uri.strip_prefix("mxc://").and_then(|named| named.split_once('/'));
        let (server, id) = named
            .ok_or_else(|| self.gave_up("downloading media", format!("{uri} is no mxc:// URI")))?;
        let path = format!("/_matrix/client/v1/media/download/{}/{}", segment(server), segment(id));
        let answer = self.http.send("GET", &path, "", Vec::new()).await?;
        Ok(self.success("GET", &path, answer)?.body)
    }

    fn success(&self, method: &str, path: &str, answer: Answer) -> Result<Answer, KitError> {
        match answer.status {
            200..300 => Ok(answer),
            status => Err(KitError::Refused {
                device: self.name(),
                what: format!("{method} {path}"),
                status,
                answer: String::from_utf8_lossy(&answer.body).into_owned(),
            }),
        }
    }
}
