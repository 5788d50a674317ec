//! Observers, which are told every update.
//!
//! Updates are collected while a transaction runs and delivered after its commit. So an observer is
//! never told of something that was rolled back, and no lock is held while it runs. Each observer
//! has a thread and a queue of its own: a slow observer delays nobody, and an observer that fails
//! is still told the next update.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use super::update::Update;

/// Receives updates, one at a time and in order, on a thread of this library.
#[uniffi::export(with_foreign)]
pub trait UpdateObserver: Send + Sync {
    /// Receives an update. Return soon. The observer may call the machine.
    fn on_update(&self, update: Update);

    /// There will be no more updates: the subscription was stopped, or the machine was shut down.
    fn on_end(&self);
}

/// A subscription to updates. It ends when it is stopped or released.
#[derive(uniffi::Object)]
pub struct UpdateSubscription {
    observers: Weak<Observers>,
    stopped: Arc<AtomicBool>,
}

#[uniffi::export]
impl UpdateSubscription {
    /// Ends the subscription. An update that is just being delivered is the last one.
    ///
    /// Stopping again does nothing.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(observers) = self.observers.upgrade() {
            // A dropped sender ends the observer's thread.
            observers.lock().retain(|observer| !Arc::ptr_eq(&observer.stopped, &self.stopped));
        }
    }
}

impl Drop for UpdateSubscription {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The observers of one machine.
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

    /// Adds an observer, which is told every update from now on.
    pub(crate) fn add(
        self: &Arc<Self>,
        observer: Arc<dyn UpdateObserver>,
    ) -> io::Result<UpdateSubscription> {
        let (sender, updates) = mpsc::channel::<Update>();
        let stopped = Arc::new(AtomicBool::new(false));
        let until = stopped.clone();
        std::thread::Builder::new().name("matrix-mls-updates".to_owned()).spawn(move || {
            for update in updates {
                if until.load(Ordering::SeqCst) {
                    break;
                }
                guarded(|| observer.on_update(update));
            }
            guarded(|| observer.on_end());
        })?;
        self.lock().push(Observer { updates: sender, stopped: stopped.clone() });
        Ok(UpdateSubscription { observers: Arc::downgrade(self), stopped })
    }

    /// Tells an update to every observer.
    pub(crate) fn tell(&self, updates: &[Update]) {
        for observer in self.lock().iter() {
            for update in updates {
                // An observer whose thread has ended is no reason to fail.
                let _ = observer.updates.send(update.clone());
            }
        }
    }
}

/// Calls the app's code. An exception there arrives as a panic and ends nothing here.
fn guarded(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("an update observer failed");
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    type Outcome = Result<(), Box<dyn Error>>;

    /// Passes on what it hears, as long as the test listens.
    struct Recorder(mpsc::Sender<Option<Update>>);

    impl UpdateObserver for Recorder {
        fn on_update(&self, update: Update) {
            let fails = matches!(update, Update::Forked { .. });
            let _ = self.0.send(Some(update));
            assert!(!fails, "as an exception in the app's code");
        }

        fn on_end(&self) {
            let _ = self.0.send(None);
        }
    }

    fn forked() -> Update {
        Update::Forked { room_id: "!a".into(), epoch: 1 }
    }

    fn removed() -> Update {
        Update::Removed { room_id: "!a".into() }
    }

    #[test]
    fn an_observer_that_fails_hears_the_next_update() -> Outcome {
        let observers = Arc::new(Observers::default());
        let (sender, heard) = mpsc::channel();
        let _subscription = observers.add(Arc::new(Recorder(sender)))?;
        observers.tell(&[forked(), removed()]);
        assert_eq!(heard.recv()?, Some(forked()));
        assert_eq!(heard.recv()?, Some(removed()));
        drop(observers);
        assert_eq!(heard.recv()?, None);
        Ok(())
    }

    #[test]
    fn stopping_one_leaves_the_other() -> Outcome {
        let observers = Arc::new(Observers::default());
        let ((one, first), (two, second)) = (mpsc::channel(), mpsc::channel());
        let subscription = observers.add(Arc::new(Recorder(one)))?;
        let _other = observers.add(Arc::new(Recorder(two)))?;
        subscription.stop();
        subscription.stop();
        assert_eq!(first.recv()?, None);
        observers.tell(&[removed()]);
        assert_eq!(second.recv()?, Some(removed()));
        assert!(first.recv().is_err(), "nothing after the end");
        Ok(())
    }
}
