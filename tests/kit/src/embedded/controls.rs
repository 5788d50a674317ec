//! The handle with which a test makes the embedded homeserver and the network misbehave.
//!
//! A fault applies to the requests that its [`Target`] names, so many times or until stopped.
//! Faults never touch what the server stores: a request is executed wholly or not at all, and
//! what a fault changes is whether, when and with what the client is answered. The other powers
//! are over delivery (an inbox can be held and released in another order, and a user can be shown
//! timelines backwards, as federation may do) and over media, which a server can lose or change.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::Notify;

use super::{Shared, limits::Limits};

/// Which requests a fault applies to: all, unless narrowed.
#[derive(Debug, Clone, Default)]
pub struct Target {
    path: String,
    user_id: Option<String>,
    device_id: Option<String>,
}

impl Target {
    /// Every request of everybody.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Requests whose path (with its query) contains this text, such as `/keys/claim`.
    pub fn path(part: &str) -> Self {
        Self { path: part.to_owned(), ..Self::default() }
    }

    /// Only this user's.
    pub fn user(mut self, user_id: &str) -> Self {
        self.user_id = Some(user_id.to_owned());
        self
    }

    /// Only those of devices with this id.
    pub fn device(mut self, device_id: &str) -> Self {
        self.device_id = Some(device_id.to_owned());
        self
    }

    fn matches(&self, path: &str, sender: Option<&(String, String)>) -> bool {
        path.contains(&self.path)
            && self.user_id.as_ref().is_none_or(|id| sender.is_some_and(|(user, _)| user == id))
            && self.device_id.as_ref().is_none_or(|id| sender.is_some_and(|(_, dev)| dev == id))
    }
}

/// A limit on each user's requests whose path contains `path`.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// The part of a path that counts; empty for every request.
    pub path: String,
    /// How many requests may come at once.
    pub burst: u32,
    /// After how long one more is allowed.
    pub interval: Duration,
}

/// A request that reached the server, for tests that count.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// The sending user; nothing before login.
    pub user_id: Option<String>,
    /// The sending device; nothing before login.
    pub device_id: Option<String>,
    /// The HTTP method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// What the request said its body is; nothing where it said nothing.
    pub content_type: Option<String>,
    /// The length of the request body in bytes.
    pub request_bytes: u64,
    /// The status of the answer; nothing where the answer or the request was dropped.
    pub status: Option<u16>,
}

pub(super) type Tamper = dyn Fn(&mut Value) + Send + Sync;
pub(super) type TamperBytes = dyn Fn(&mut Vec<u8>) + Send + Sync;

#[derive(Clone)]
pub(super) enum Effect {
    Delay(Duration),
    DropRequest,
    DropAnswer,
    Fail(u16),
    Hold(Arc<Notify>),
    Tamper(Arc<Tamper>),
    TamperBytes(Arc<TamperBytes>),
}

struct Rule {
    target: Target,
    effect: Effect,
    remaining: AtomicU64,
    hits: AtomicU64,
    stopped: AtomicBool,
}

/// A fault in force. Dropping the handle leaves it in force.
#[derive(Clone)]
pub struct Fault(Arc<Rule>);

impl Fault {
    /// Ends it. Requests that it holds go on.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        if let Effect::Hold(notify) = &self.0.effect {
            notify.notify_waiters();
        }
    }

    /// How many requests it has met.
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::SeqCst)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    pub(super) fn effect(&self) -> &Effect {
        &self.0.effect
    }
}

#[derive(Default)]
struct Orders {
    faults: Vec<Fault>,
    rate_limit: Option<RateLimit>,
    /// By user: when the next requests would have been allowed had there been no burst.
    allowances: HashMap<String, Instant>,
    requests: Vec<RequestRecord>,
}

/// Makes the embedded homeserver misbehave, and tells what it was asked.
#[derive(Clone)]
pub struct Controls {
    shared: Arc<Shared>,
    orders: Arc<Mutex<Orders>>,
}

impl Controls {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, orders: Arc::default() }
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, target: Target, effect: Effect, times: Option<u64>) -> Fault {
        let fault = Fault(Arc::new(Rule {
            target,
            effect,
            remaining: AtomicU64::new(times.unwrap_or(u64::MAX)),
            hits: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }));
        self.orders().faults.push(fault.clone());
        fault
    }

    /// The target's requests are neither executed nor answered until the fault is stopped.
    pub fn partition(&self, target: Target) -> Fault {
        self.add(target, Effect::DropRequest, None)
    }

    /// The next `times` requests are neither executed nor answered.
    pub fn drop_requests(&self, target: Target, times: u64) -> Fault {
        self.add(target, Effect::DropRequest, Some(times))
    }

    /// The next `times` requests are executed, and their answers are lost.
    pub fn drop_answers(&self, target: Target, times: u64) -> Fault {
        self.add(target, Effect::DropAnswer, Some(times))
    }

    /// The next `times` requests are answered with this status and not executed.
    pub fn fail(&self, target: Target, times: u64, status: u16) -> Fault {
        self.add(target, Effect::Fail(status), Some(times))
    }

    /// Requests are executed this much later.
    pub fn delay(&self, target: Target, delay: Duration) -> Fault {
        self.add(target, Effect::Delay(delay), None)
    }

    /// Requests wait, unexecuted, until the fault is stopped. Others overtake them.
    pub fn hold(&self, target: Target) -> Fault {
        self.add(target, Effect::Hold(Arc::new(Notify::new())), None)
    }

    /// The JSON of successful answers passes through `change`: a server that lies.
    pub fn tamper(
        &self,
        target: Target,
        change: impl Fn(&mut Value) + Send + Sync + 'static,
    ) -> Fault {
        self.add(target, Effect::Tamper(Arc::new(change)), None)
    }

    /// The bytes of successful answers pass through `change`: media that comes damaged or cut
    /// short.
    pub fn tamper_bytes(
        &self,
        target: Target,
        change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static,
    ) -> Fault {
        self.add(target, Effect::TamperBytes(Arc::new(change)), None)
    }

    /// Ends every fault and every limit, and releases every held inbox in order.
    pub fn heal(&self) {
        let faults = {
            let mut orders = self.orders();
            orders.rate_limit = None;
            std::mem::take(&mut orders.faults)
        };
        faults.iter().for_each(Fault::stop);
        let held: Vec<String> = self.shared.world().held_inboxes.iter().cloned().collect();
        held.iter().for_each(|user_id| self.release_to_device(user_id));
        self.shared.change(|world| {
            world.reversed_timelines.clear();
            world.limits = None;
        });
    }

    /// Limits the rate of each user's requests from now on, or lifts the limit.
    pub fn set_rate_limit(&self, limit: Option<RateLimit>) {
        let mut orders = self.orders();
        orders.allowances.clear();
        orders.rate_limit = limit;
    }

    /// Limits how often users may send, join, invite and create rooms as Synapse does by default
    /// (a message each five seconds, ten at once), or lifts these limits.
    pub fn set_default_limits(&self, limited: bool) {
        self.shared.change(|world| world.limits = limited.then(Limits::default));
    }

    /// To-device events to this user wait on the server.
    pub fn hold_to_device(&self, user_id: &str) {
        self.shared.change(|world| world.held_inboxes.insert(user_id.to_owned()));
    }

    /// What waited is delivered, in order.
    pub fn release_to_device(&self, user_id: &str) {
        self.release(user_id, false);
    }

    /// What waited is delivered, the latest first.
    pub fn release_to_device_reversed(&self, user_id: &str) {
        self.release(user_id, true);
    }

    fn release(&self, user_id: &str, reversed: bool) {
        self.shared.change(|world| {
            world.held_inboxes.remove(user_id);
            let Some(user) = world.users.get_mut(user_id) else {
                return;
            };
            let mut released = Vec::new();
            for (device_id, device) in &mut user.devices {
                let mut events = std::mem::take(&mut device.held);
                if reversed {
                    events.reverse();
                }
                released.extend(events.into_iter().map(|event| (device_id.clone(), event)));
            }
            for (device_id, event) in released {
                world.deliver(user_id, &device_id, event);
            }
        });
    }

    /// Whether this user's syncs bring each timeline backwards.
    pub fn reverse_timelines(&self, user_id: &str, reversed: bool) {
        self.shared.change(|world| match reversed {
            true => world.reversed_timelines.insert(user_id.to_owned()),
            false => world.reversed_timelines.remove(user_id),
        });
    }

    /// Forgets the sliding sync connections of this user, as Synapse forgets those that have not
    /// been used for seven days: their positions are unknown (`M_UNKNOWN_POS`) from now on.
    pub fn expire_connections(&self, user_id: &str) {
        self.shared.change(|world| world.connections.expire(user_id));
    }

    /// The timeline length of a sync whose filter does not say one; 10 as in Synapse.
    pub fn set_default_timeline_limit(&self, limit: usize) {
        self.shared.change(|world| world.default_timeline_limit = limit);
    }

    /// The largest upload from now on, in bytes; 50 MiB as in Synapse.
    pub fn set_upload_limit(&self, bytes: usize) {
        self.shared.change(|world| world.upload_limit = bytes);
    }

    /// The media that was uploaded and is still there, as `mxc://` URIs.
    pub fn media_uris(&self) -> Vec<String> {
        let world = self.shared.world();
        let mut uris: Vec<String> =
            world.media.keys().map(|id| format!("mxc://{}/{id}", world.server_name)).collect();
        uris.sort();
        uris
    }

    /// The bytes of a blob; nothing where there is none of that URI.
    pub fn media(&self, uri: &str) -> Option<Vec<u8>> {
        let world = self.shared.world();
        Some(world.media.get(world.media_id(uri)?)?.bytes.to_vec())
    }

    /// A blob has other bytes from now on. Says whether there was one of that URI.
    pub fn replace_media(&self, uri: &str, bytes: Vec<u8>) -> bool {
        self.shared.change(|world| {
            let media = world.media_id(uri).map(str::to_owned);
            let media = media.and_then(|id| world.media.get_mut(&id));
            media.map(|media| media.bytes = bytes.into()).is_some()
        })
    }

    /// A blob is gone from now on. Says whether there was one of that URI.
    pub fn delete_media(&self, uri: &str) -> bool {
        self.shared.change(|world| {
            let media = world.media_id(uri).map(str::to_owned);
            media.and_then(|id| world.media.remove(&id)).is_some()
        })
    }

    /// The requests so far, in the order they were answered or dropped.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.orders().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.orders().requests.clear();
    }

    pub(super) fn record(&self, record: RequestRecord) {
        self.orders().requests.push(record);
    }

    pub(super) fn sender_of(&self, token: &str) -> Option<(String, String)> {
        self.shared.world().tokens.get(token).cloned()
    }

    /// The faults a request meets, each counted once.
    pub(super) fn faults_for(&self, path: &str, sender: Option<&(String, String)>) -> Vec<Fault> {
        let mut orders = self.orders();
        orders
            .faults
            .retain(|fault| !fault.is_stopped() && fault.0.remaining.load(Ordering::SeqCst) > 0);
        let met = orders.faults.iter().filter(|fault| fault.0.target.matches(path, sender));
        met.map(|fault| {
            fault.0.remaining.fetch_sub(1, Ordering::SeqCst);
            fault.0.hits.fetch_add(1, Ordering::SeqCst);
            fault.clone()
        })
        .collect()
    }

    /// How long this request comes too early, if it does.
    pub(super) fn limited(&self, path: &str, user_id: &str) -> Option<Duration> {
        let mut orders = self.orders();
        let limit = orders.rate_limit.clone().filter(|limit| path.contains(&limit.path))?;
        let now = Instant::now();
        let due = orders.allowances.get(user_id).copied().unwrap_or(now).max(now);
        let ahead = due - now;
        let allowed = limit.interval.saturating_mul(limit.burst.saturating_sub(1));
        if ahead > allowed {
            return Some(ahead - allowed);
        }
        orders.allowances.insert(user_id.to_owned(), due + limit.interval);
        None
    }
}
