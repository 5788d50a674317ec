//! The key backup, as a user sees it: a key to write down, and a text typed on a new phone.

use std::{sync::Arc, time::Duration};

use matrix_mls::{BackupState, RecoveryKey, RestoreScope, Update, UpdateObserver};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::Client;
use crate::KitError;

/// How long an update may take that was told before it is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

struct Ends(UnboundedSender<Update>);

impl UpdateObserver for Ends {
    fn on_update(&self, update: Update) {
        if matches!(update, Update::RestoreFinished { .. }) {
            // Nobody waits for it any more: that is for whoever does.
            let _ = self.0.send(update);
        }
    }

    fn on_end(&self) {}
}

impl Client {
    /// Makes a key backup of all that this device can read, and of what comes. Gives the text of
    /// its key. One whose making was interrupted goes on.
    pub async fn back_up_history(&self) -> Result<String, KitError> {
        let backup = self.machine()?.backup();
        self.drive().await?;
        let made = backup.recovery_key().await.map_err(self.engine("the backup's key"))?;
        if let Some(key) = made {
            return Ok(key.text());
        }
        let key = RecoveryKey::generate().map_err(self.engine("making a key"))?;
        backup.create(key.clone(), false).await.map_err(self.engine("making a backup"))?;
        self.drive().await?;
        match backup.state().await.map_err(self.engine("the backup's state"))? {
            BackupState::Enabled { .. } => Ok(key.text()),
            state => Err(self.gave_up("making a backup", format!("{state:?}"))),
        }
    }

    /// Goes on with the account's key backup, whose key somebody has typed, and brings back all
    /// that is in it. Gives how many epochs became readable.
    pub async fn restore_history(&self, typed: &str) -> Result<u64, KitError> {
        let what = "restoring history";
        let machine = self.machine()?;
        let key = RecoveryKey::parse(typed.to_owned()).map_err(self.engine(what))?;
        let (ends, mut ended) = unbounded_channel();
        let subscription = machine.subscribe(Arc::new(Ends(ends))).await;
        let subscription = subscription.map_err(self.engine(what))?;
        let backup = machine.backup();
        backup.enable(key.clone()).await.map_err(self.engine(what))?;
        let id = backup.restore(Some(key), RestoreScope::AllRooms).await;
        let id = id.map_err(self.engine(what))?;
        self.drive().await?;
        loop {
            match timeout(PATIENCE, ended.recv()).await {
                Ok(Some(Update::RestoreFinished { restore, epochs, failures }))
                    if restore == id =>
                {
                    subscription.stop();
                    if failures.is_empty() {
                        return Ok(epochs);
                    }
                    return Err(self.gave_up(what, format!("{failures:?}")));
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(self.gave_up(what, "it does not end")),
            }
        }
    }
}
