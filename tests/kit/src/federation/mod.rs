//! Two Synapses whose users share rooms, and the link between them, which a test can cut and heal.

mod link;

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::Value;

use self::link::{Link, Passage};
use crate::{Homeserver, Http, KitError, Synapse, http::segment};

/// How long the servers may take to find each other again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The user of each server whose profile the other asks for, to see whether it is there.
const CALLER: &str = "kit-caller";

/// Two federating homeservers. Both stop when this is dropped.
pub struct Federation {
    /// One server.
    pub a: Homeserver,
    /// The other.
    pub b: Homeserver,
    /// The user that each asks the other for.
    callers: [String; 2],
    link: Link,
}

impl Federation {
    /// Starts both. Their users are `@name:localhost:PORT`.
    pub async fn start() -> Result<Self, KitError> {
        let (one, other) = tokio::join!(start(), start());
        let ((a, of_a), (b, of_b)) = (one?, other?);
        let link = Link::start(vec![of_a, of_b]).map_err(KitError::io("starting the link"))?;
        let (of_a, _) = Http::register(a.base_url(), CALLER, "CALLER").await?;
        let (of_b, _) = Http::register(b.base_url(), CALLER, "CALLER").await?;
        let federation = Self { a, b, callers: [of_a, of_b], link };
        federation.meet().await?;
        Ok(federation)
    }

    /// Cuts the link: no request passes either way, connections are closed and new ones refused.
    pub async fn cut(&self) {
        self.link.cut().await;
    }

    /// Restores the link, and returns when each server has reached the other and begun to send what
    /// it kept.
    pub async fn heal(&self) -> Result<(), KitError> {
        self.link.restore();
        self.meet().await
    }

    /// Has each server ask the other for something until it is answered.
    async fn meet(&self) -> Result<(), KitError> {
        let [of_a, of_b] = &self.callers;
        call(&self.a, of_b).await?;
        call(&self.b, of_a).await
    }
}

/// A server and the passage to it; its name is the passage's port.
async fn start() -> Result<(Homeserver, Passage), KitError> {
    let from = TcpListener::bind("127.0.0.1:0");
    let from = from.map_err(KitError::io("finding a port for a federating server"))?;
    let address = from.local_addr().map_err(KitError::io("finding a port"))?;
    let name = format!("localhost:{}", address.port());
    let started = tokio::task::spawn_blocking(move || Synapse::start_federating(&name)).await;
    let synapse = started
        .map_err(|error| KitError::Setup(format!("starting Synapse was aborted: {error}")))??;
    let to = synapse
        .federation_port()
        .ok_or_else(|| KitError::Setup("the Synapse was started without federation".to_owned()))?;
    Ok((Homeserver::of(synapse), Passage { from, to }))
}

/// Asks for a profile of the other server. Synapse sends this request even to a server that it
/// leaves alone for having been unreachable; its success ends that, on both sides, and sets free
/// what was kept for it.
async fn call(homeserver: &Homeserver, user_id: &str) -> Result<(), KitError> {
    let http = Http::new(homeserver.base_url(), CALLER)?;
    let path = format!("/_matrix/client/v3/profile/{}", segment(user_id));
    let began = Instant::now();
    loop {
        let answer = http.try_json("GET", &path, Value::Null).await?;
        if answer.status == 200 {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(KitError::GaveUp {
                device: homeserver.base_url().to_owned(),
                what: format!("reaching the server of {user_id}"),
                reason: String::from_utf8_lossy(&answer.body).into_owned(),
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
