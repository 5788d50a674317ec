//! What a device tells its app, remembered for a test.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eyre::bail;
use matrix_mls::{Update, UpdateObserver, UpdateSubscription};

use crate::{Client, Result};

/// How often it is looked, and how long between two looks: updates come on a thread of their own.
const LOOKS: usize = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// The updates that a device has told, but those that were waited for.
#[derive(Default)]
pub struct Heard(Mutex<Vec<Update>>);

impl UpdateObserver for Heard {
    fn on_update(&self, update: Update) {
        self.updates().push(update);
    }

    fn on_end(&self) {}
}

impl Heard {
    /// Listens to a device, until the subscription is dropped.
    pub async fn of(client: &Client) -> Result<(Arc<Self>, Arc<UpdateSubscription>)> {
        let heard = Arc::new(Self::default());
        let subscription = client.machine()?.subscribe(heard.clone()).await?;
        Ok((heard, subscription))
    }

    /// All that has come.
    pub fn all(&self) -> Vec<Update> {
        self.updates().clone()
    }

    /// Waits until an update of this kind has come, and takes all that came until then.
    pub async fn wait_for(&self, is_it: impl Fn(&Update) -> bool) -> Result<Update> {
        self.hear(|update| is_it(update).then(|| update.clone())).await
    }

    /// Waits for the first update of which there is this to tell, and takes all that came until
    /// then.
    pub async fn hear<T>(&self, tell: impl Fn(&Update) -> Option<T>) -> Result<T> {
        for _ in 0..LOOKS {
            if let Some(told) = self.take_until(&tell) {
                return Ok(told);
            }
            tokio::time::sleep(PAUSE).await;
        }
        bail!("not heard; only {:?}", self.all())
    }

    fn take_until<T>(&self, tell: impl Fn(&Update) -> Option<T>) -> Option<T> {
        let mut updates = self.updates();
        let found = updates.iter().enumerate().find_map(|(at, update)| Some((at, tell(update)?)));
        let (at, told) = found?;
        updates.drain(..=at);
        Some(told)
    }

    /// Waits until so many updates have come, and gives all that are there then.
    pub async fn wait_for_so_many(&self, count: usize) -> Result<Vec<Update>> {
        for _ in 0..LOOKS {
            let updates = self.all();
            if updates.len() >= count {
                return Ok(updates);
            }
            tokio::time::sleep(PAUSE).await;
        }
        bail!("not {count} heard; only {:?}", self.all())
    }

    fn updates(&self) -> MutexGuard<'_, Vec<Update>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
