//! `MlsMachine`: one device of one user, as an app sees it.
//!
//! Thin: it parses arguments, moves the work off the async executor's threads, and puts results
//! into exported shapes. Every call that changes something keeps one rule: the change happens as a
//! whole and is on disk before the call returns, or it does not happen. Cancelling the caller does
//! not stop a change half-way.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use ruma::{DeviceId, OwnedDeviceId};

use super::{
    backup::MlsBackup,
    error::MlsError,
    ids,
    logging::log_unread,
    own_identity::MlsIdentity,
    room::MlsRoom,
    slot::{EngineSlot, blocking},
    store_key::StoreKey,
    sync::SyncSummary,
    verification::{Verification, VerificationInfo},
};
use crate::{
    engine::{Answered, Engine, diagnostics::Call},
    exported::{
        MemberPolicy, OutgoingRequest, PendingRequests, RequestOutcome, RollbackGuard, SyncChanges,
        UpdateObserver, UpdateSubscription,
    },
    identity,
    protocol::DeviceName,
};

/// What opening a machine needs.
#[derive(Debug, Clone, uniffi::Record)]
pub struct MachineConfig {
    /// The Matrix user id, `@alice:example.org`.
    pub user_id: String,
    /// The Matrix device id, as the app's login gave it.
    pub device_id: String,
    /// A directory for this device alone. It is made if it does not exist.
    pub store_path: String,
    /// How the store is sealed.
    pub store_key: StoreKey,
    /// Who uploads this device's `device_keys`.
    pub publishing: Publishing,
    /// Which devices of the people in a room become members of its group. Absent means
    /// `CrossSignedOrUserHasNoIdentity`.
    ///
    /// It may be another each time: all rooms are then compared with it before the next message.
    #[uniffi(default = None)]
    pub member_policy: Option<MemberPolicy>,
}

/// Who uploads this device's `device_keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Publishing {
    /// This library does: the device has no Olm machine.
    Alone,
    /// The app's Olm machine does, and this library leaves them as they are. The Olm machine signs
    /// a text of this device's once ([`MlsMachine::binding_to_sign`]).
    BesideOlm,
}

/// One device of one user.
///
/// Open it once, feed it every sync, send the requests that it gives, and use a room's handle for
/// everything that concerns one room. All methods may be called from any thread.
#[derive(uniffi::Object)]
pub struct MlsMachine {
    own: DeviceName,
    pub(super) store_path: String,
    pub(super) engine: Arc<EngineSlot>,
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsMachine {
    /// Opens a device's store, or makes it.
    ///
    /// Fails with `StoreWrongKey`, `StoreDamaged`, `StoreTooNew`, `StoreInUse`, `StoreFull` or
    /// `StoreIo`; each leaves the store on disk unchanged. Fails with `InvalidInput` if an id or
    /// the store's key is malformed (`"bad_user_id"`, `"bad_device_id"`, `"bad_store_key"`), or if
    /// the store belongs to another device (`"other_device"`).
    #[uniffi::constructor]
    pub async fn open(config: MachineConfig) -> Result<Arc<Self>, MlsError> {
        Self::open_with(config, None).await
    }

    /// Opens a device's store like [`open`](Self::open), with a number that the app keeps outside the
    /// store, so that an older copy of the store is noticed even where it was brought back in place.
    ///
    /// Give the same guard each time. Fails as [`open`](Self::open) does.
    #[uniffi::constructor]
    pub async fn open_guarded(
        config: MachineConfig,
        rollback_guard: Arc<dyn RollbackGuard>,
    ) -> Result<Arc<Self>, MlsError> {
        Self::open_with(config, Some(rollback_guard)).await
    }

    /// The id of the user that this machine belongs to.
    pub fn user_id(&self) -> String {
        self.own.user_id.to_string()
    }

    /// The id of the device that this machine is.
    pub fn device_id(&self) -> String {
        self.own.device_id.to_string()
    }

    /// The requests to send now, oldest first.
    ///
    /// Send each request and pass its answer to
    /// [`mark_request_as_sent`](Self::mark_request_as_sent). A request is given again, the same to
    /// the byte, until its answer is known. A request that was told to wait is left out until it is
    /// due.
    pub async fn outgoing_requests(&self) -> Result<Vec<OutgoingRequest>, MlsError> {
        self.engine.run(Engine::outgoing_requests).await
    }

    /// Takes in the answer to a request: the HTTP status, whatever it is, and the body.
    ///
    /// Status 0 stands for no answer at all, such as a timeout or no network. An id that was
    /// answered before is accepted and changes nothing. Fails with `InvalidInput`
    /// (`"bad_request_id"`) if `id` does not have the form of a request's id.
    pub async fn mark_request_as_sent(
        &self,
        id: String,
        status: u16,
        body: Vec<u8>,
    ) -> Result<RequestOutcome, MlsError> {
        let answered = move |engine: &Engine| engine.answered(&id, status, &body);
        let answered = self.engine.run_timed(Call::Answer, answered).await;
        self.engine.note_change();
        let Answered { outcome, unread } = answered?;
        log_unread(unread);
        Ok(outcome)
    }

    /// What is in the queue of requests: how many are due, and until when the others wait.
    ///
    /// A request that `outgoing_requests` would plan anew is not counted before that call.
    pub async fn pending_requests(&self) -> Result<PendingRequests, MlsError> {
        self.engine.run(Engine::pending_requests).await
    }

    /// Waits until there may be something to send, at most `longest_ms` milliseconds: until an
    /// answer or a sync was taken in, or one of [`network_available`](Self::network_available),
    /// [`access_token_renewed`](Self::access_token_renewed), [`suspend`](Self::suspend),
    /// [`resume`](Self::resume) and [`shutdown`](Self::shutdown) was called.
    ///
    /// For the loop that sends requests, while all of them wait. It does not say what has happened:
    /// ask for the outgoing requests again.
    pub async fn wait_for_change(&self, longest_ms: u64) {
        self.engine.wait_for_change(Duration::from_millis(longest_ms)).await;
    }

    /// Says that the network is back: requests that had no answer are due at once, and their delays
    /// begin anew. Delays that the homeserver has asked for stay.
    ///
    /// A success of any request, and each sync, do the same for requests that wait. So this is for
    /// an app that knows sooner.
    pub async fn network_available(&self) -> Result<(), MlsError> {
        let done = self.engine.run(Engine::network_available).await;
        self.engine.note_change();
        done
    }

    /// Says that the app has another access token: requests that the homeserver refused because of
    /// the old one are due at once. Call it also to try again with the same token.
    pub async fn access_token_renewed(&self) -> Result<(), MlsError> {
        let done = self.engine.run(Engine::access_token_renewed).await;
        self.engine.note_change();
        done
    }

    /// Takes in a sync. When this returns, the sync is on disk, and the app may store its
    /// `next_batch`.
    ///
    /// An app with several sync connections feeds the responses of all, each with its connection's
    /// name. Feeding the same sync twice does no harm. A bad event fails alone. The call itself
    /// fails only if the store does. Feed the same sync again then: what was taken in before the
    /// failure is on disk, and its results come with the next sync.
    pub async fn receive_sync(&self, changes: SyncChanges) -> Result<SyncSummary, MlsError> {
        let receive = move |engine: &Engine| engine.receive_sync(&changes);
        let outcome = self.engine.run_timed(Call::ReceiveSync, receive).await?;
        self.engine.note_change();
        let summary = SyncSummary::from(outcome);
        for room in &summary.rooms {
            self.engine.note_events(&room.events);
        }
        Ok(summary)
    }

    /// Asks another device of this user, or a user's devices, for an interactive verification.
    ///
    /// Without a device id all devices of the user are asked (at most 500); the first that answers
    /// is the one. To verify another user whom Element or another app serves, ask them in a room
    /// (`MlsRoom::request_verification`): most apps look for such requests there. The homeserver is
    /// asked for the user's keys first: send the machine's requests.
    ///
    /// Fails with `InvalidInput` if an id cannot be read (`"bad_user_id"`, `"bad_device_id"`) or
    /// the device is this one (`"own_device"`), with `NotReady` if 16 that this device has asked
    /// for are under way (`"too_many_verifications"`), and with `Unsupported` beside Olm, whose
    /// machine verifies (`"beside_olm"`).
    pub async fn request_verification(
        &self,
        user_id: String,
        device_id: Option<String>,
    ) -> Result<Arc<Verification>, MlsError> {
        let user = ids::user_id("user_id", &user_id)?;
        if device_id.as_ref().is_some_and(String::is_empty) {
            return Err(MlsError::invalid("bad_device_id", "device_id: it is empty"));
        }
        let device = device_id.map(OwnedDeviceId::from);
        let id =
            self.engine.run(move |engine| engine.request_verification(&user, device, None)).await?;
        self.engine.note_change();
        Ok(Verification::new(self.engine.clone(), id))
    }

    /// The handle of a verification by its id, which an update has named.
    pub fn verification(&self, verification_id: String) -> Arc<Verification> {
        Verification::new(self.engine.clone(), verification_id)
    }

    /// The verifications that go on, oldest first: for an app that was just started.
    pub async fn verifications(&self) -> Result<Vec<VerificationInfo>, MlsError> {
        let flows = self.engine.run(Engine::verifications).await?;
        Ok(flows.into_iter().map(VerificationInfo::from).collect())
    }

    /// Has the device lists of all users asked for again.
    ///
    /// Call it when the app has reason to believe that it was not told of changes. A sync that
    /// begins anew needs no such call: the machine sees that.
    pub async fn doubt_device_lists(&self) -> Result<(), MlsError> {
        self.engine.run(Engine::doubt_device_lists).await
    }

    /// The handle of a room. The room need not be known to this device yet.
    ///
    /// Fails with `InvalidInput` (`"bad_room_id"`).
    pub fn room(&self, room_id: String) -> Result<Arc<MlsRoom>, MlsError> {
        #[cfg(feature = "test-hooks")]
        crate::store::hooks::reached(crate::store::hooks::IN_CALL);
        let room_id = ids::room_id("room_id", &room_id)?;
        Ok(Arc::new(MlsRoom::new(self.engine.clone(), room_id, self.own.clone())))
    }

    /// The key backup of this device.
    pub fn backup(&self) -> Arc<MlsBackup> {
        Arc::new(MlsBackup::new(self.engine.clone()))
    }

    /// The own cross-signing identity of this machine's user.
    pub fn identity(&self) -> Arc<MlsIdentity> {
        Arc::new(MlsIdentity::new(self.engine.clone()))
    }

    /// The ids of the rooms that use MLS, as far as this device knows.
    pub async fn rooms(&self) -> Result<Vec<String>, MlsError> {
        let rooms = self.engine.run(Engine::rooms).await?;
        Ok(rooms.into_iter().map(|room| room.to_string()).collect())
    }

    /// The text that the Ed25519 key of the Olm machine beside this device has to sign, once.
    ///
    /// This is for [`Publishing::BesideOlm`]; otherwise it is absent. It is absent too once
    /// [`bind_device`](Self::bind_device) has taken the signature. Until then nobody can tell that
    /// this device's MLS credential belongs to the device: it uploads no key packages, enters no
    /// groups, and calls that send fail with `NotReady`.
    ///
    /// The text is canonical JSON that names the user, the device and the credential's key. It is
    /// no `device_keys` object: what the Olm machine has uploaded stays as it is, and so do its
    /// signatures. Fails with `NewDeviceNeeded` if the homeserver has another MLS credential under
    /// this device's id.
    pub async fn binding_to_sign(&self) -> Result<Option<String>, MlsError> {
        self.engine.run(Engine::binding_to_sign).await
    }

    /// Takes in the signature over [`binding_to_sign`](Self::binding_to_sign).
    ///
    /// `device_key` is the Olm machine's Ed25519 key in base64, which it calls its identity key.
    /// `signatures` is what its `sign` gives: by user id and key id, such as `ed25519:DEVICE`, in
    /// base64. It may hold other signatures; they are dropped. The signature counts for as long as
    /// the store does, and taking it in again does nothing.
    ///
    /// Fails with `InvalidInput` (`"bad_binding"`) if this device's key has not signed the text, or
    /// the machine was not opened with [`Publishing::BesideOlm`]. Fails with `NewDeviceNeeded` as
    /// `binding_to_sign` does.
    pub async fn bind_device(
        &self,
        device_key: String,
        signatures: HashMap<String, HashMap<String, String>>,
    ) -> Result<(), MlsError> {
        let bound =
            self.engine.run(move |engine| engine.bind_device(&device_key, &signatures)).await;
        self.engine.note_change();
        bound
    }

    /// Seals the store under another key.
    ///
    /// The contents are not rewritten: a random key seals them, and only that key is sealed again.
    /// Fails with `InvalidInput` (`"bad_store_key"`).
    pub async fn change_store_key(&self, new_key: StoreKey) -> Result<(), MlsError> {
        self.engine
            .run(move |engine| {
                let key = new_key.checked()?;
                Ok::<_, MlsError>(engine.change_key(key.material())?)
            })
            .await
    }

    /// Tells an observer every change from now on. There may be several observers.
    ///
    /// This ends when the subscription is stopped or released, or the machine is shut down.
    pub async fn subscribe(
        &self,
        observer: Arc<dyn UpdateObserver>,
    ) -> Result<Arc<UpdateSubscription>, MlsError> {
        self.engine.run(move |engine| engine.subscribe(observer)).await.map(Arc::new)
    }

    /// Ends what runs, closes the store's file and releases every lock, for an app that the system is
    /// about to suspend. iOS ends an app that is suspended while it holds a lock on a file.
    ///
    /// The turn under way is finished first, which takes milliseconds, or up to some seconds for a
    /// large sync. Until [`resume`](Self::resume) every call that needs the store fails with
    /// `Suspended`. A call of many turns, such as an import of history, ends after the one under way:
    /// what it has done stays. An answer that could not be taken in is not lost: its request is given
    /// again. Observers stay subscribed and hear nothing meanwhile. A
    /// [`MlsReader`](crate::MlsReader) is not affected, in this process or another, and another
    /// machine may open the store. The store's key stays in memory. Suspending again does nothing.
    pub async fn suspend(&self) -> Result<(), MlsError> {
        let done = self
            .engine
            .run(|engine| {
                engine.suspend();
                Ok::<_, MlsError>(())
            })
            .await;
        self.engine.note_change();
        done
    }

    /// Opens the store's file again after [`suspend`](Self::suspend), without the store's key.
    ///
    /// Fails with `StoreInUse` while another machine has the store open, with `StoreDamaged` if
    /// another file has taken its place, and with `StoreTooNew`, `StoreIo` or `StoreFull` like
    /// `open`. The machine then stays suspended. Resuming one that is not suspended does nothing.
    pub async fn resume(&self) -> Result<(), MlsError> {
        let done = self.engine.run(Engine::resume).await;
        self.engine.note_change();
        done
    }

    /// Lets go of what is in memory only to be at hand.
    ///
    /// For an app whose system says that memory runs short (`onTrimMemory` on Android,
    /// `didReceiveMemoryWarning` on iOS). Nothing is lost: the next commit in a room reads its
    /// group from the store again, which takes milliseconds, or some 30 for a room of 10,000
    /// devices. It waits for no other call. The groups that are let go take 24 MB at the most.
    pub async fn release_memory(&self) -> Result<(), MlsError> {
        self.engine
            .run(|engine| {
                engine.release_memory();
                Ok::<_, MlsError>(())
            })
            .await
    }

    /// Waits for running calls, then closes the store and releases its lock.
    ///
    /// Every later call on this machine or its rooms fails with `Closed`. Shutting down again does
    /// nothing. Without this call, the store closes when the last handle of the machine and of its
    /// rooms is released.
    pub async fn shutdown(&self) -> Result<(), MlsError> {
        let slot = self.engine.clone();
        blocking(move || {
            let engine = slot.close();
            // A binding that cannot be written is made again later, so that must not keep the store
            // open.
            if let Some(Err(error)) = engine.as_ref().map(Engine::write_bindings) {
                tracing::warn!(%error, "not all was written before closing");
            }
            drop(engine);
            slot.note_change();
            Ok(())
        })
        .await
    }
}

impl MlsMachine {
    async fn open_with(
        config: MachineConfig,
        guard: Option<Arc<dyn RollbackGuard>>,
    ) -> Result<Arc<Self>, MlsError> {
        let user_id = ids::user_id("user_id", &config.user_id)?;
        if config.device_id.is_empty() {
            return Err(MlsError::invalid("bad_device_id", "device_id: it is empty"));
        }
        let device_id = <&DeviceId>::from(config.device_id.as_str()).to_owned();
        let store_path = config.store_path.clone();
        let engine = blocking(move || {
            let directory = PathBuf::from(&config.store_path);
            let publishing = match config.publishing {
                Publishing::Alone => identity::Publishing::Alone,
                Publishing::BesideOlm => identity::Publishing::BesideOlm,
            };
            let key = config.store_key.checked()?;
            let key = key.material();
            let policy =
                config.member_policy.unwrap_or(MemberPolicy::CrossSignedOrUserHasNoIdentity);
            Ok(Engine::open(user_id, device_id, publishing, policy, &directory, key, guard)?)
        })
        .await?;
        let own = engine.identity().name();
        Ok(Arc::new(Self { own, store_path, engine: EngineSlot::new(engine) }))
    }
}
