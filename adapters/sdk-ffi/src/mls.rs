//! What a fork adds: the adapter's machine, its room and its messages, for Kotlin and Swift.

use std::sync::{Arc, Mutex, PoisonError};

use async_compat::Compat;
use futures_util::StreamExt as _;
use matrix_mls_sdk::{
    Mls as Attached, TimelineItem,
    matrix_mls::{MlsDevice, MlsMachine, RoomSettings, Shield},
};
use matrix_sdk::ruma::{OwnedRoomId, RoomId};
use tokio::task::JoinHandle;

use crate::{error::ClientError, sync};

/// An MLS machine that is attached to a client.
#[derive(uniffi::Object)]
pub struct Mls {
    /// Dropped in a runtime, like the client that it holds.
    attached: Compat<Attached>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A message that was decrypted.
#[derive(uniffi::Record)]
pub struct Message {
    /// The room.
    pub room_id: String,
    /// The event that the SDK's timeline shows as undecryptable.
    pub event_id: String,
    /// Who has sent it.
    pub sender: String,
    /// Its text.
    pub body: String,
    /// The shield to show: a type of the namespace `matrix_mls`.
    pub shield: Shield,
}

/// Who shows messages.
#[uniffi::export(with_foreign)]
pub trait MessageListener: Send + Sync {
    /// A message was decrypted.
    fn on_message(&self, message: Message);
}

impl Mls {
    /// Runs the SDK's sync, and the adapter beside it.
    pub(crate) async fn start(attached: Attached) -> Result<Arc<Self>, ClientError> {
        let syncs = tokio::spawn(sync::run(sync::connection(attached.client()).await?));
        let runs = attached.clone();
        let runs = tokio::spawn(async move {
            if let Err(error) = runs.run().await {
                eprintln!("the adapter has stopped: {error}");
            }
        });
        let attached = Compat::new(attached);
        Ok(Arc::new(Self { attached, tasks: Mutex::new(vec![syncs, runs]) }))
    }

    fn keep(&self, task: JoinHandle<()>) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }
}

#[uniffi::export(async_runtime = "tokio")]
impl Mls {
    /// Whether a room uses MLS.
    pub async fn uses_mls(&self, room_id: String) -> Result<bool, ClientError> {
        Ok(self.attached.get_ref().uses_mls(&parsed(room_id)?).await?)
    }

    /// Takes a room over to MLS. Gives the devices in its group.
    pub async fn upgrade(
        &self,
        room_id: String,
        settings: RoomSettings,
    ) -> Result<Vec<MlsDevice>, ClientError> {
        let upgraded = self.attached.get_ref().upgrade(&parsed(room_id)?, settings).await?;
        Ok(upgraded.devices.into_iter().collect())
    }

    /// Sends a text. Gives the id of its event.
    pub async fn send_text(&self, room_id: String, text: String) -> Result<String, ClientError> {
        Ok(self.attached.get_ref().send_text(&parsed(room_id)?, &text).await?.to_string())
    }

    /// Tells a listener of each message from now on.
    pub async fn listen(&self, listener: Arc<dyn MessageListener>) {
        let mut items = self.attached.get_ref().timeline();
        self.keep(tokio::spawn(async move {
            while let Some(item) = items.next().await {
                if let TimelineItem::Decrypted(event) = item
                    && let Some(body) = event.body()
                {
                    listener.on_message(Message {
                        room_id: event.room_id.to_string(),
                        event_id: event.event_id.to_string(),
                        sender: event.sender.to_string(),
                        body: body.to_owned(),
                        shield: event.shield(false),
                    });
                }
            }
        }));
    }

    /// Ends both syncs, and closes the machine. It cannot be called `close`: in Kotlin each object
    /// has a `close` that lets go of the handle.
    pub async fn detach(&self) -> Result<(), ClientError> {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            // Aborted is what it is meant to be.
            let _ = task.await;
        }
        Ok(self.attached.get_ref().close().await?)
    }
}

#[uniffi::export]
impl Mls {
    /// The machine: an object of the namespace `matrix_mls`, with all that it can do.
    pub fn machine(&self) -> Arc<MlsMachine> {
        self.attached.get_ref().machine().clone()
    }
}

fn parsed(room_id: String) -> Result<OwnedRoomId, ClientError> {
    RoomId::parse(room_id).map_err(ClientError::generic)
}
