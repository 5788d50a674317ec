//! A homeserver to test against: the embedded one, or a real Synapse.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Controls, EmbeddedServer, KitError, Synapse};

/// Which homeserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeserverKind {
    /// The one in this process.
    Embedded,
    /// A real Synapse in a process of its own.
    Synapse,
}

impl FromStr for HomeserverKind {
    type Err = KitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "synapse" => Ok(Self::Synapse),
            other => Err(KitError::Setup(format!(
                "there is no homeserver `{other}`: choose `embedded` or `synapse`"
            ))),
        }
    }
}

enum Running {
    Embedded(EmbeddedServer),
    Synapse(Synapse),
    Elsewhere(String),
}

/// A running homeserver; it stops when dropped.
pub struct Homeserver(Running);

/// The Synapse that the tests of one process share.
static SHARED_SYNAPSE: Mutex<Option<Arc<Homeserver>>> = Mutex::new(None);

impl Homeserver {
    /// Starts an embedded homeserver.
    pub fn embedded() -> Result<Self, KitError> {
        let server = EmbeddedServer::start().map_err(KitError::io("starting the homeserver"))?;
        Ok(Self(Running::Embedded(server)))
    }

    /// Starts a Synapse, and installs it first where this machine has none: that needs Python and
    /// takes about a minute, once.
    pub async fn synapse() -> Result<Self, KitError> {
        started(Synapse::start).await
    }

    /// Starts the homeserver that was asked for, with limits as Synapse has them by default: a user
    /// may send ten events at once, and then one each five seconds.
    pub async fn start_limited(kind: HomeserverKind) -> Result<Self, KitError> {
        match kind {
            HomeserverKind::Embedded => {
                let server = Self::embedded()?;
                if let Some(controls) = server.controls() {
                    controls.set_default_limits(true);
                }
                Ok(server)
            }
            HomeserverKind::Synapse => started(Synapse::start_limited).await,
        }
    }

    /// Starts the homeserver that was asked for.
    pub async fn start(kind: HomeserverKind) -> Result<Self, KitError> {
        match kind {
            HomeserverKind::Embedded => Self::embedded(),
            HomeserverKind::Synapse => Self::synapse().await,
        }
    }

    /// Starts the homeserver that was asked for at this port of this machine.
    pub async fn start_at(kind: HomeserverKind, port: u16) -> Result<Self, KitError> {
        match kind {
            HomeserverKind::Embedded => {
                let started = EmbeddedServer::start_at(port);
                Ok(Self(Running::Embedded(
                    started.map_err(KitError::io("starting the homeserver"))?,
                )))
            }
            HomeserverKind::Synapse => started(move || Synapse::start_at(port)).await,
        }
    }

    /// One Synapse for all tests of this process, started by the first that asks. It ends with
    /// the process. Tests that share it take user names of their own.
    pub async fn shared_synapse() -> Result<Arc<Self>, KitError> {
        let started = tokio::task::spawn_blocking(|| {
            let mut shared = SHARED_SYNAPSE.lock().unwrap_or_else(PoisonError::into_inner);
            match &*shared {
                Some(server) => Ok(server.clone()),
                None => {
                    let server = Arc::new(Self(Running::Synapse(Synapse::start()?)));
                    Ok(shared.insert(server).clone())
                }
            }
        });
        started.await.unwrap_or_else(|error| {
            Err(KitError::Setup(format!("starting Synapse was aborted: {error}")))
        })
    }

    /// A Synapse that somebody else started.
    pub(crate) fn of(synapse: Synapse) -> Self {
        Self(Running::Synapse(synapse))
    }

    /// One that runs in another process, by its base URL.
    pub fn at(base_url: &str) -> Self {
        Self(Running::Elsewhere(base_url.trim_end_matches('/').to_owned()))
    }

    /// Where it listens, without a trailing slash.
    pub fn base_url(&self) -> &str {
        match &self.0 {
            Running::Embedded(server) => server.base_url(),
            Running::Synapse(synapse) => synapse.base_url(),
            Running::Elsewhere(base_url) => base_url,
        }
    }

    /// The faults that can be ordered: of the embedded homeserver only.
    pub fn controls(&self) -> Option<&Controls> {
        match &self.0 {
            Running::Embedded(server) => Some(server.controls()),
            Running::Synapse(_) | Running::Elsewhere(_) => None,
        }
    }
}

async fn started(
    start: impl FnOnce() -> Result<Synapse, KitError> + Send + 'static,
) -> Result<Homeserver, KitError> {
    match tokio::task::spawn_blocking(start).await {
        Ok(synapse) => Ok(Homeserver(Running::Synapse(synapse?))),
        Err(error) => Err(KitError::Setup(format!("starting Synapse was aborted: {error}"))),
    }
}
