//! What an app can watch: observers that are told, after the fact, what changed.
//!
//! Updates are collected while a transaction runs and delivered after it is committed, so an
//! observer never hears of what was rolled back, and no lock is held while it runs. Each observer
//! has a thread and a queue of its own: a slow one delays nobody, and one that fails is told the
//! next update all the same.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use crate::{
    error::MlsError,
    key_backup::{BackupState, HistoryFailure},
};

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
#[non_exhaustive]
pub enum Update {
    /// This device entered a room's group, by a Welcome or by creating it.
    Joined {
        /// The room.
        room_id: String,
        /// The MLS epoch number.
        epoch: u64,
    },
    /// The room's group moved to a new epoch: its members or its keys changed.
    EpochChanged {
        /// The room.
        room_id: String,
        /// The new MLS epoch number.
        epoch: u64,
        /// The devices that were added, as `user_id|device_id`.
        added: Vec<String>,
        /// The devices that were removed, as `user_id|device_id`.
        removed: Vec<String>,
    },
    /// This device was removed from the room's group.
    Removed {
        /// The room.
        room_id: String,
    },
    /// Two commits were made on one epoch: the group has forked. Both branches are followed, all
    /// devices go on with the same one, and nothing is to be done.
    Forked {
        /// The room.
        room_id: String,
        /// The number that both new epochs have.
        epoch: u64,
    },
    /// A commit adds or removes devices without a reason that this device knows of.
    UnfitCommit {
        /// The room.
        room_id: String,
        /// The device that made it, as `user_id|device_id`.
        committer: String,
        /// What does not fit, a sentence each.
        doubts: Vec<String>,
    },
    /// This device cannot go on in a room by itself, and is about to join its group anew.
    Healing {
        /// The room.
        room_id: String,
        /// Why, a sentence for a log.
        reason: String,
    },
    /// It has joined anew, and can be sent to.
    Healed {
        /// The room.
        room_id: String,
        /// Why it had to, a sentence for a log.
        reason: String,
    },
    /// Joining anew did not work for now. It is tried again later, and whenever something is to be sent.
    HealingFailed {
        /// The room.
        room_id: String,
        /// Why, a sentence for a log.
        reason: String,
    },
    /// Another person's device cannot take part, and why.
    DeviceRejected {
        /// Its user.
        user_id: String,
        /// The device.
        device_id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A device has no key package that can be used, so it was not added for now.
    DeviceUnreachable {
        /// The room it should be added to.
        room_id: String,
        /// Its user.
        user_id: String,
        /// The device.
        device_id: String,
    },
    /// The homeserver refused a request for good.
    RequestRefused {
        /// The room it was for, if any.
        room_id: Option<String>,
        /// The Matrix error code.
        code: String,
        /// The homeserver's sentence.
        reason: String,
    },
    /// The key backup stands otherwise than before.
    BackupChanged {
        /// How it stands now.
        state: BackupState,
    },
    /// What was asked of the key backup did not come about; what was before goes on.
    BackupFailed {
        /// Stable across releases: `wrong_key`, `no_backup`, `backup_exists`, `unsupported_backup`, or the
        /// homeserver's.
        code: String,
        /// A sentence for a log.
        reason: String,
    },
    /// Epochs were backed up.
    BackupProgress {
        /// How many are.
        backed_up: u64,
        /// How many are or will be.
        total: u64,
    },
    /// A member who has added this device gave it what was said before. Try again to decrypt what could not
    /// be read.
    HistoryShared {
        /// The room.
        room_id: String,
        /// The device that did, as `user_id|device_id`: who said what in these epochs is its word.
        by: String,
        /// How many epochs became readable.
        epochs: u64,
    },
    /// Sessions of the backup were taken.
    RestoreProgress {
        /// The restore's id.
        restore: u64,
        /// How many were taken or found wrong.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// A restore has come to its end.
    RestoreFinished {
        /// The restore's id.
        restore: u64,
        /// How many epochs became readable that were not before. Try again to decrypt what could not be read.
        epochs: u64,
        /// What was left out, and why. With the code `wrong_key` nothing was restored.
        failures: Vec<HistoryFailure>,
    },
    /// Events that waited for what they need were dropped, as there were too many.
    EventsDropped {
        /// The room.
        room_id: String,
        /// How many.
        count: u64,
    },
}

/// Hears of updates. Called on a thread of this library's, one update at a time, in order.
#[uniffi::export(with_foreign)]
pub trait UpdateObserver: Send + Sync {
    /// Something changed. Return soon; calls back into the machine are allowed.
    fn on_update(&self, update: Update);

    /// Nothing more will come: the subscription was stopped, or the machine was shut down.
    fn on_end(&self);
}

/// An observer's place among those that are told. It ends when this is stopped or dropped.
#[derive(uniffi::Object)]
pub struct Subscription {
    observers: Weak<Observers>,
    stopped: Arc<AtomicBool>,
}

#[uniffi::export]
impl Subscription {
    /// Ends the subscription: no update is delivered from now on, but for one that is being
    /// delivered. Stopping again does nothing.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(observers) = self.observers.upgrade() {
            // A dropped sender ends the observer's thread.
            observers.lock().retain(|observer| !Arc::ptr_eq(&observer.stopped, &self.stopped));
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Those who are told.
#[derive(Default)]
pub(crate) struct Observers(Mutex<Vec<Observer>>);

struct Observer {
    updates: mpsc::Sender<Update>,
    stopped: Arc<AtomicBool>,
}

impl Observers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Observer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells this observer, too, from now on.
    pub(crate) fn add(
        self: &Arc<Self>,
        observer: Arc<dyn UpdateObserver>,
    ) -> Result<Subscription, MlsError> {
        let (sender, updates) = mpsc::channel::<Update>();
        let stopped = Arc::new(AtomicBool::new(false));
        let until = stopped.clone();
        std::thread::Builder::new()
            .name("matrix-mls-updates".to_owned())
            .spawn(move || {
                for update in updates {
                    if until.load(Ordering::SeqCst) {
                        break;
                    }
                    guarded(|| observer.on_update(update));
                }
                guarded(|| observer.on_end());
            })
            .map_err(|error| MlsError::internal("thread", error))?;
        self.lock().push(Observer { updates: sender, stopped: stopped.clone() });
        Ok(Subscription { observers: Arc::downgrade(self), stopped })
    }

    /// Tells everyone.
    pub(crate) fn tell(&self, updates: &[Update]) {
        for observer in self.lock().iter() {
            for update in updates {
                // An observer whose thread has gone is no reason to fail.
                let _ = observer.updates.send(update.clone());
            }
        }
    }
}

/// An exception in the app's code arrives as a panic; it is the app's, and ends nothing here.
fn guarded(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("an update observer failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Recorder(mpsc::Sender<Option<Update>>);

    impl UpdateObserver for Recorder {
        fn on_update(&self, update: Update) {
            let fails = matches!(update, Update::Forked { .. });
            self.0.send(Some(update)).unwrap();
            assert!(!fails, "as an exception in the app's code");
        }

        fn on_end(&self) {
            self.0.send(None).unwrap();
        }
    }

    fn forked() -> Update {
        Update::Forked { room_id: "!a".into(), epoch: 1 }
    }

    fn removed() -> Update {
        Update::Removed { room_id: "!a".into() }
    }

    #[test]
    fn an_observer_that_fails_hears_the_next_update() {
        let observers = Arc::new(Observers::default());
        let (sender, heard) = mpsc::channel();
        let _subscription = observers.add(Arc::new(Recorder(sender))).unwrap();
        observers.tell(&[forked(), removed()]);
        assert_eq!(heard.recv().unwrap(), Some(forked()));
        assert_eq!(heard.recv().unwrap(), Some(removed()));
        drop(observers);
        assert_eq!(heard.recv().unwrap(), None);
    }

    #[test]
    fn stopping_one_leaves_the_other() {
        let observers = Arc::new(Observers::default());
        let ((one, first), (two, second)) = (mpsc::channel(), mpsc::channel());
        let subscription = observers.add(Arc::new(Recorder(one))).unwrap();
        let _other = observers.add(Arc::new(Recorder(two))).unwrap();
        subscription.stop();
        subscription.stop();
        assert_eq!(first.recv().unwrap(), None);
        observers.tell(&[removed()]);
        assert_eq!(second.recv().unwrap(), Some(removed()));
        assert!(first.recv().is_err(), "nothing after the end");
    }
}
