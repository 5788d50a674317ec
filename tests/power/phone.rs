//! A phone whose power goes off at one chosen point, and that goes on from what its disk has.

use matrix_mls::{OutgoingRequest, SendPlan, test_hooks};
use matrix_mls_kit::{Client, KitError, Result};
use serde_json::json;

use crate::disk::{self, Image, Lost};

/// How often something is tried that waits for others.
const TRIES: usize = 20;

/// Why a step of the phone's has ended early.
pub enum Stop {
    /// The power went off.
    Power,
    /// Something else.
    Failed(Box<dyn std::error::Error>),
}

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub type Step = Result<(), Stop>;

/// A phone, and when its power goes off.
pub struct Phone {
    pub client: Client,
    /// How many points are left until then.
    left: u32,
    /// Whether it went off.
    pub was_off: bool,
    lost: Lost,
    /// For how many points before that nothing is flushed.
    unflushed: u32,
    image: Option<Image>,
    /// What its app knows to be said.
    pub said: Vec<String>,
}

impl Phone {
    /// A phone that loses power at the `nth` point from now, counted from 1, and flushes nothing
    /// for some points before.
    pub fn new(client: Client, nth: u32, lost: Lost, unflushed: u32) -> Self {
        let (was_off, image, said) = (false, None, Vec::new());
        Self { client, left: nth, was_off, lost, unflushed, image, said }
    }

    /// Does a step, and again where the power went off within it.
    pub async fn does(&mut self, step: impl AsyncFn(&mut Self) -> Step) -> Result {
        match step(self).await {
            Ok(()) => return Ok(()),
            Err(Stop::Failed(error)) => return Err(KitError::Setup(error.to_string()).into()),
            Err(Stop::Power) => {}
        }
        self.client.close().await?;
        if let Some(image) = self.image.take() {
            image.put()?;
        }
        self.client.restart().await?;
        match step(self).await {
            Ok(()) => Ok(()),
            Err(Stop::Power) => Err(KitError::Setup("the power went off twice".to_owned()).into()),
            Err(Stop::Failed(error)) => Err(KitError::Setup(error.to_string()).into()),
        }
    }

    /// A point at which the power may go off: what the disk has not got by now is lost.
    pub fn point(&mut self) -> Step {
        self.left = self.left.saturating_sub(1);
        if self.was_off {
            return Ok(());
        }
        if self.left > 0 {
            test_hooks::leave_out_flushes(self.left <= self.unflushed);
            return Ok(());
        }
        test_hooks::leave_out_flushes(false);
        self.was_off = true;
        self.image = Some(disk::image(&self.client.store_path(), self.lost));
        Err(Stop::Power)
    }

    async fn request(&mut self, request: &OutgoingRequest) -> Step {
        self.point()?;
        let answer = self.client.transmit(request).await?;
        self.point()?;
        let machine = self.client.machine()?;
        machine.mark_request_as_sent(request.id.clone(), answer.status, answer.body).await?;
        self.point()
    }

    /// Sends what waits.
    pub async fn drive(&mut self) -> Step {
        for _ in 0..TRIES {
            let requests = self.client.machine()?.outgoing_requests().await?;
            if requests.is_empty() {
                return Ok(());
            }
            for request in &requests {
                self.request(request).await?;
            }
        }
        Err("requests without end".into())
    }

    /// Syncs until there is no news, and sends what follows.
    pub async fn settle(&mut self) -> Step {
        for _ in 0..TRIES {
            self.drive().await?;
            let synced = self.client.sync().await?;
            self.point()?;
            if synced.is_quiet {
                return Ok(());
            }
        }
        Err("news without end".into())
    }

    /// Says something, unless it is said.
    pub async fn say(&mut self, room: &str, text: &str) -> Step {
        if self.said.iter().any(|said| said == text) {
            return Ok(());
        }
        self.prepare(room).await?;
        let handle = self.client.room(room).await?;
        let content = json!({ "msgtype": "m.text", "body": text }).to_string();
        let sealed = handle.encrypt("m.room.message".into(), content).await?;
        self.point()?;
        let content = serde_json::from_str(&sealed)?;
        self.client.send_unencrypted(room, "m.room.encrypted", content).await?;
        self.said.push(text.to_owned());
        self.point()
    }

    async fn prepare(&mut self, room: &str) -> Step {
        for _ in 0..TRIES {
            let handle = self.client.room(room).await?;
            let plan = handle.prepare_to_send().await?;
            drop(handle);
            match plan {
                SendPlan::Ready => return self.point(),
                SendPlan::Waiting { requests, .. } if requests.is_empty() => {
                    self.client.sync().await?;
                    self.point()?;
                }
                SendPlan::Waiting { requests, .. } => {
                    for request in &requests {
                        self.request(request).await?;
                    }
                }
            }
        }
        Err(KitError::Setup("the room does not become ready".to_owned()).into())
    }
}
