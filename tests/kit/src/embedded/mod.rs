//! A Matrix homeserver inside the test process: the client-server endpoints that an MLS engine
//! and its test client use, answering as Synapse 1.163 does.
//!
//! It listens on a free port of 127.0.0.1 from a thread of its own, keeps all in memory, has one
//! lock, and is gone when dropped. What a real server and network do to a client can be ordered
//! through [`Controls`]. `tests/kit/tests/homeserver` checks its answers against Synapse.

mod account_data;
mod accounts;
mod answer;
mod context;
mod controls;
mod cross_signing;
mod device_lists;
mod error;
mod events;
mod filter;
mod gate;
mod keys;
mod limits;
mod media;
mod membership;
mod messages;
mod push;
mod receipts;
mod room_creation;
mod room_keys;
mod room_upgrade;
mod sliding_sync;
mod state;
mod sync;
mod to_device;
mod visibility;

use std::{
    io,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use axum::{
    Router,
    routing::{MethodRouter, get, post, put},
};
use tokio::sync::{oneshot, watch};

pub use controls::{Controls, Fault, RateLimit, RequestRecord, Target};
use state::World;

/// A running embedded homeserver; it stops when dropped.
pub struct EmbeddedServer {
    base_url: String,
    controls: Controls,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What every request handler sees.
pub(crate) struct Shared {
    world: Mutex<World>,
    /// The world's position, for those who wait for the next change.
    position: watch::Sender<u64>,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the world and wakes waiting syncs.
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world();
        let result = change(&mut world);
        self.position.send_replace(world.position);
        result
    }
}

impl EmbeddedServer {
    /// Starts a server that knows nobody.
    pub fn start() -> io::Result<Self> {
        Self::start_at(0)
    }

    /// The same at this port of this machine; 0 stands for any that is free.
    pub fn start_at(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let world = World::new("embedded.test");
        let (position, _) = watch::channel(world.position);
        let shared = Arc::new(Shared { world: Mutex::new(world), position });
        let controls = Controls::new(shared.clone());
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let router = routes().with_state(shared);
        let gate_controls = controls.clone();
        let thread = std::thread::Builder::new().name("embedded-homeserver".to_owned()).spawn(
            move || {
                runtime.block_on(gate::serve(listener, router, gate_controls, stopped));
            },
        )?;
        Ok(Self { base_url, controls, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens, without a trailing slash.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The handle that makes it misbehave.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }
}

impl Drop for EmbeddedServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What can be done with all of a backup's sessions, with a room's, or with one.
fn backup_keys() -> MethodRouter<Arc<Shared>> {
    get(room_keys::get).put(room_keys::put).delete(room_keys::delete)
}

fn routes() -> Router<Arc<Shared>> {
    let v3 = Router::new()
        .route("/register", post(accounts::register))
        .route("/login", get(accounts::login_flows).post(accounts::login))
        .route("/logout", post(accounts::logout))
        .route("/logout/all", post(accounts::logout_all))
        .route("/account/whoami", get(accounts::whoami))
        .route("/devices", get(accounts::devices))
        .route("/delete_devices", post(accounts::delete_devices))
        .route("/createRoom", post(room_creation::create_room))
        .route("/joined_rooms", get(membership::joined_rooms))
        .route("/join/{room_id}", post(membership::join))
        .route("/rooms/{room_id}/join", post(membership::join))
        .route("/rooms/{room_id}/invite", post(membership::invite))
        .route("/rooms/{room_id}/leave", post(membership::leave))
        .route("/rooms/{room_id}/kick", post(membership::kick))
        .route("/rooms/{room_id}/ban", post(membership::ban))
        .route("/rooms/{room_id}/unban", post(membership::unban))
        .route("/rooms/{room_id}/upgrade", post(room_upgrade::upgrade))
        .route("/rooms/{room_id}/members", get(messages::members))
        .route("/rooms/{room_id}/joined_members", get(messages::joined_members))
        .route("/rooms/{room_id}/messages", get(messages::messages))
        .route("/rooms/{room_id}/event/{event_id}", get(messages::event))
        .route("/rooms/{room_id}/context/{event_id}", get(context::context))
        .route("/rooms/{room_id}/send/{event_type}/{txn_id}", put(events::send))
        .route("/rooms/{room_id}/redact/{event_id}/{txn_id}", put(events::redact))
        .route("/rooms/{room_id}/state", get(messages::full_state))
        .route(
            "/rooms/{room_id}/state/{event_type}",
            get(messages::state_without_key).put(events::send_state_without_key),
        )
        .route(
            "/rooms/{room_id}/state/{event_type}/",
            get(messages::state_without_key).put(events::send_state_without_key),
        )
        .route(
            "/rooms/{room_id}/state/{event_type}/{state_key}",
            get(messages::state).put(events::send_state),
        )
        .route("/rooms/{room_id}/receipt/{kind}/{event_id}", post(receipts::send))
        .route("/rooms/{room_id}/read_markers", post(receipts::read_markers))
        .route("/sync", get(sync::sync))
        .route("/user/{user_id}/account_data/{kind}", get(account_data::get).put(account_data::put))
        .route(
            "/user/{user_id}/rooms/{room_id}/account_data/{kind}",
            get(account_data::get_of_room).put(account_data::put_of_room),
        )
        .route("/notifications", get(push::notifications))
        .route("/pushrules/", get(push::all))
        .route("/pushrules/global/", get(push::global))
        .route(
            "/pushrules/global/{kind}/{rule_id}",
            get(push::get).put(push::put).delete(push::delete),
        )
        .route(
            "/pushrules/global/{kind}/{rule_id}/{attribute}",
            get(push::attribute).put(push::set_attribute),
        )
        .route("/keys/changes", get(device_lists::changes))
        .route("/keys/upload", post(keys::upload))
        .route("/keys/query", post(keys::query))
        .route("/keys/claim", post(keys::claim))
        .route("/keys/device_signing/upload", post(cross_signing::upload_keys))
        .route("/keys/signatures/upload", post(cross_signing::upload_signatures))
        .route("/room_keys/version", get(room_keys::current).post(room_keys::create))
        .route(
            "/room_keys/version/{version}",
            get(room_keys::version).delete(room_keys::delete_version),
        )
        .route("/room_keys/keys", backup_keys())
        .route("/room_keys/keys/{room_id}", backup_keys())
        .route("/room_keys/keys/{room_id}/{session_id}", backup_keys())
        .route("/sendToDevice/{event_type}/{txn_id}", put(to_device::send));
    // Media has a version of its own in its paths.
    let client_media = Router::new()
        .route("/config", get(media::config))
        .route("/download/{server}/{media_id}", get(media::download))
        .route("/download/{server}/{media_id}/{file_name}", get(media::download_as));
    let upload = Router::new().route("/upload", post(media::upload));
    Router::new()
        .nest("/_matrix/client/v1/media", client_media)
        .nest("/_matrix/media/v3", upload.clone())
        .nest("/_matrix/media/v1", upload.clone())
        .nest("/_matrix/media/r0", upload)
        .route("/_matrix/client/versions", get(accounts::versions))
        .route(
            "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
            post(sliding_sync::sync),
        )
        .nest("/_matrix/client/v3", v3.clone())
        .nest("/_matrix/client/r0", v3)
        .fallback(answer::unrecognized)
        .method_not_allowed_fallback(answer::unrecognized_method)
}
