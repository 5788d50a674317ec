//! The media repositories: what is uploaded to one server can be had from another where the link is
//! up.

use serde_json::json;

use super::{Name, Reply, SERVERS, World};

impl World {
    pub(super) fn upload_media(&mut self, from: &Name, body: &[u8]) -> Reply {
        let id = format!("m{}", self.tick());
        let here = &mut self.servers[from.server()];
        here.media.insert(id.clone(), body.into());
        let uri = format!("mxc://{}/{id}", SERVERS[from.server()]);
        Reply::ok(&json!({ "content_uri": uri }))
    }

    pub(super) fn download_media(&self, from: &Name, server: &str, id: &str) -> Reply {
        let Some(home) = SERVERS.iter().position(|name| *name == server) else {
            return Reply::error(404, "M_NOT_FOUND");
        };
        if !self.is_linked(from.server(), home) {
            return Reply::error(504, "M_UNKNOWN");
        }
        match self.servers[home].media.get(id) {
            Some(bytes) => Reply { status: 200, body: bytes.to_vec() },
            None => Reply::error(404, "M_NOT_FOUND"),
        }
    }
}
