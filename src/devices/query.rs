//! Asking for device lists, and taking in the answers.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonValue, OwnedDeviceId, OwnedServerName, OwnedUserId, UserId,
    api::client::keys::get_keys,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::value::RawValue;

use super::{
    bindings::{self, BoundKey},
    own_devices, pins,
    policy::{Rule, rule},
    record::{self, DEVICES, DeviceRecord, DevicesError, LONGEST_DEVICE_ID, update_eligible},
    silent,
    tracking::{self, TrackedUser},
    user_identity::{self, Published, Standing},
    verdict::{self, Verdict},
    verification::{self, Own},
    verify::{DeviceFault, RejectedDevice, Voucher, is_signed_by_owner, voucher},
};
use crate::{
    protocol::DeviceName,
    store::{StoreError, Tx},
};

/// The most devices that a user may have. An answer with more is ignored: each device is a record
/// in the store and costs up to two signature checks, and a homeserver can answer anything.
const MOST_DEVICES: usize = 5_000;

/// Who was asked about, with the last change of each list that was known then.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct KeyQuery {
    asked: BTreeMap<OwnedUserId, u64>,
}

impl KeyQuery {
    /// A query about those of these users whose lists are tracked.
    pub(super) fn about<'a>(
        tx: &Tx<'_>,
        users: impl IntoIterator<Item = &'a UserId>,
    ) -> Result<Self, StoreError> {
        let mut asked = BTreeMap::new();
        for user in users {
            if let Some(TrackedUser { change, .. }) = tracking::get(tx, user)? {
                asked.insert(user.to_owned(), change);
            }
        }
        Ok(Self { asked })
    }

    /// Whether the answer to a later query about this user has come first.
    pub(super) fn is_overtaken(&self, tx: &Tx<'_>, user: &UserId) -> Result<bool, StoreError> {
        let known = tracking::get(tx, user)?.and_then(|tracked| tracked.known);
        Ok(known.zip(self.asked.get(user)).is_some_and(|(known, asked)| known > *asked))
    }

    /// Whether the answer will bring this user's list up to date.
    pub(crate) fn covers(&self, tx: &Tx<'_>, user: &UserId) -> Result<bool, StoreError> {
        let change = tracking::get(tx, user)?.map(|tracked| tracked.change);
        Ok(change.is_some() && self.asked.get(user).copied() == change)
    }
}

/// A query for the device lists of these users.
pub(crate) fn query_request(
    tx: &Tx<'_>,
    users: BTreeSet<OwnedUserId>,
) -> Result<(KeyQuery, get_keys::v3::Request), StoreError> {
    let query = KeyQuery::about(tx, users.iter().map(|user| &**user))?;
    let mut request = get_keys::v3::Request::new();
    request.device_keys = query.asked.keys().map(|user| (user.clone(), Vec::new())).collect();
    Ok((query, request))
}

/// A user whose list was not available. It stays out of date.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PostponedUser {
    pub(crate) user_id: OwnedUserId,
    /// When the list is asked for again, in milliseconds since 1970.
    pub(crate) retry_at_ms: u64,
}

/// What an answer changed.
#[derive(Debug, Default)]
pub(crate) struct QueryReport {
    /// The users about whom the answer said something, so that their devices may have changed.
    pub(crate) changed_users: Vec<OwnedUserId>,
    /// The users whose devices are others than before.
    pub(crate) altered_users: Vec<OwnedUserId>,
    /// The devices that are newly rejected, or rejected for another reason than before.
    pub(crate) rejected: Vec<RejectedDevice>,
    /// The users whose master key is another than the pinned one, each key once.
    pub(crate) identities_changed: Vec<OwnedUserId>,
    /// The users with a device of which something else is known than before.
    pub(crate) trust_changed: BTreeSet<OwnedUserId>,
    /// Whether it says something about this device's own user.
    pub(crate) answers_own_user: bool,
    /// The other devices of the own user that the user has not signed, each once.
    pub(crate) unsigned_own: Vec<OwnedDeviceId>,
    /// The users whose homeserver was unreachable, or about whom the answer says nothing readable.
    pub(crate) postponed: Vec<PostponedUser>,
}

/// The members of a JSON object, not parsed yet. A derived struct would accept an empty array as an
/// object without members, which would mean here that every device is gone.
pub(super) type Members = BTreeMap<String, Box<RawValue>>;

/// The body of an answer.
pub(super) struct Answer {
    /// What it says of each user's devices; `None` if it has no such member.
    device_keys: Option<Members>,
    /// Each user's master, self-signing and user-signing key.
    cross_signing: [Members; 3],
    unreachable: BTreeSet<OwnedServerName>,
}

impl Answer {
    pub(super) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let answer: Members = serde_json::from_slice(body)?;
        let members = |name| {
            answer.get(name).map(|value| serde_json::from_str::<Members>(value.get())).transpose()
        };
        let unreachable = members("failures")?
            .unwrap_or_default()
            .into_keys()
            .filter_map(|server| OwnedServerName::try_from(server).ok())
            .collect();
        // Where these cannot be read, what is said of devices counts all the same.
        let cross_signing = ["master_keys", "self_signing_keys", "user_signing_keys"]
            .map(|name| members(name).ok().flatten().unwrap_or_default());
        Ok(Self { device_keys: members("device_keys")?, cross_signing, unreachable })
    }

    /// What it says of a user's cross-signing keys.
    pub(super) fn identity_of(&self, user: &UserId) -> Published<'_> {
        let [master, self_signing, user_signing] =
            self.cross_signing.each_ref().map(|keys| keys.get(user.as_str()).map(|key| &**key));
        Published { master, self_signing, user_signing }
    }

    /// What it says of a user's devices; `None` if it says nothing usable.
    pub(super) fn devices_of(&self, user: &UserId) -> Option<Members> {
        let devices = match self.device_keys.as_ref()?.get(user.as_str()) {
            Some(devices) => serde_json::from_str::<Members>(devices.get()).ok()?,
            // The homeserver knows of no device of this user.
            None => Members::new(),
        };
        // For users of an unreachable server, an answer with remembered devices is good enough. An
        // empty answer is not: it does not mean that there are no devices.
        let is_guess = devices.is_empty() && self.unreachable.contains(user.server_name());
        (!is_guess && devices.len() <= MOST_DEVICES).then_some(devices)
    }
}

/// Takes in the answer to a query. Users that were not asked about are ignored. A fault in one
/// device or user does not affect the others.
pub(crate) fn handle_query_response(
    tx: &Tx<'_>,
    query: &KeyQuery,
    body: &[u8],
    now_ms: u64,
) -> Result<QueryReport, DevicesError> {
    let answer = Answer::parse(body).map_err(|_| DevicesError::MalformedAnswer)?;
    let rule = rule(tx)?;
    let own_user = rule.as_ref().map(Rule::own_user);
    let own = Own::load(tx)?;
    let mut report = QueryReport::default();
    for (user, asked) in &query.asked {
        let Some(mut tracked) = tracking::get(tx, user)? else { continue };
        if tracked.known.is_some_and(|known| known > *asked) {
            // The answer to a later query arrived first.
            continue;
        }
        if let Some(devices) = answer.devices_of(user) {
            let published = answer.identity_of(user);
            let taken = user_identity::take_in(tx, user, &published, own_user, now_ms)?;
            let mut judge = Judge { rule: rule.as_ref(), ..Judge::default() };
            if let Some(taken) = taken {
                if taken.is_news {
                    report.identities_changed.push(user.clone());
                }
                judge.master_before = taken.before.as_ref().map(|before| before.master.clone());
                let identity =
                    verification::put(tx, own.as_ref(), taken.before.as_ref(), taken.now)?;
                let standing_before =
                    taken.before.map(|before| before.standing).unwrap_or_default();
                if identity.standing != standing_before {
                    report.trust_changed.insert(user.clone());
                }
                judge.has_identity = true;
                judge.owner = identity.standing;
                judge.self_signing = identity.self_signing;
            }
            if let Some(own) = rule.as_ref().and_then(|rule| rule.own_device_of(user)) {
                let key = judge.self_signing.as_deref().map(Vec::as_slice);
                let has_identity = judge.has_identity;
                report.unsigned_own = own_devices::take_in(tx, own, &devices, has_identity, key)?;
                report.answers_own_user = true;
            }
            if replace_devices(tx, user, &devices, &judge, &mut report)? {
                report.altered_users.push(user.clone());
            }
            tracked.known = Some(*asked);
            tracked.retry_at_ms = 0;
            tracked.failures = 0;
            tracking::put(tx, &tracked)?;
            report.changed_users.push(user.clone());
            if own_user == Some(user) {
                // Whom the own user has signed depends on the own user's keys.
                report.trust_changed.extend(verification::decide_for_all(tx)?);
            }
        } else if tracked.is_outdated() {
            tracked.postpone(now_ms);
            tracking::put(tx, &tracked)?;
            let retry_at_ms = tracked.retry_at_ms;
            report.postponed.push(PostponedUser { user_id: user.clone(), retry_at_ms });
        }
    }
    Ok(report)
}

/// The homeserver has refused a query. The lists that it asked for are left alone for a while;
/// until then the known devices count.
pub(crate) fn query_refused(tx: &Tx<'_>, query: &KeyQuery, now_ms: u64) -> Result<(), StoreError> {
    for user in query.asked.keys() {
        if let Some(mut tracked) = tracking::get(tx, user)?
            && tracked.is_outdated()
        {
            tracked.postpone(now_ms);
            tracking::put(tx, &tracked)?;
        }
    }
    Ok(())
}

/// What decides about one user's devices, beside what they publish.
#[derive(Default)]
struct Judge<'a> {
    rule: Option<&'a Rule>,
    has_identity: bool,
    /// How the owner's identity stands.
    owner: Standing,
    /// The owner's master key that was known before the answer.
    master_before: Option<ByteBuf>,
    /// The key with which their owner signs devices.
    self_signing: Option<ByteBuf>,
}

impl Judge<'_> {
    /// What vouches for the credential of a device whose published keys are good, and whether its
    /// owner has signed them.
    fn read(&self, name: &DeviceName, keys: &RawValue) -> Result<(Voucher, bool), DeviceFault> {
        let Ok(CanonicalJsonValue::Object(keys)) = serde_json::from_str(keys.get()) else {
            return Err(DeviceFault::Malformed);
        };
        let voucher = voucher(&name.user_id, &name.device_id, &keys)?;
        let by_owner =
            |key: &ByteBuf| is_signed_by_owner(&name.user_id, &name.device_id, &keys, key);
        Ok((voucher, self.self_signing.as_ref().is_some_and(by_owner)))
    }
}

/// What is known of a device's credential from what it publishes and from its bindings.
struct Read {
    /// Its key.
    key: Result<Vec<u8>, DeviceFault>,
    owner_signed: bool,
    /// The Ed25519 key that has to have bound it.
    binding_key: Option<ByteBuf>,
}

impl Read {
    fn of(
        tx: &Tx<'_>,
        judge: &Judge<'_>,
        name: &DeviceName,
        keys: &RawValue,
        pinned: Option<&[u8]>,
    ) -> Result<Self, StoreError> {
        Ok(match judge.read(name, keys) {
            Err(fault) => Self { key: Err(fault), owner_signed: false, binding_key: None },
            Ok((Voucher::Published { credential_key }, owner_signed)) => {
                Self { key: Ok(credential_key), owner_signed, binding_key: None }
            }
            Ok((Voucher::Binding { device_key }, owner_signed)) => {
                let key = match bindings::bound_key(tx, name, &device_key, pinned)? {
                    BoundKey::None => Err(DeviceFault::NoCredential),
                    BoundKey::Key(key) => Ok(key),
                    BoundKey::OtherDeviceKey => Err(DeviceFault::Changed),
                };
                Self { key, owner_signed, binding_key: Some(device_key.into()) }
            }
        })
    }
}

/// Replaces what is known of one user's devices; tells whether that is something else than before.
/// The pins of those that are gone stay.
fn replace_devices(
    tx: &Tx<'_>,
    user: &UserId,
    devices: &Members,
    judge: &Judge<'_>,
    report: &mut QueryReport,
) -> Result<bool, StoreError> {
    let mut changed = false;
    for gone in DEVICES.list(tx, user.as_bytes())? {
        if !devices.contains_key(gone.name.device_id.as_str()) {
            let signed_by = judge.master_before.clone().filter(|_| gone.owner_signed);
            pins::is_gone(tx, &gone.name, gone.credential_key.as_deref(), signed_by)?;
            changed |= DEVICES.delete(tx, user.as_bytes(), gone.name.device_id.as_bytes())?;
        }
    }
    let mut count = pins::Count::of(tx, user)?;
    for (device, keys) in devices {
        if device.is_empty() || device.len() > LONGEST_DEVICE_ID {
            continue;
        }
        let device = OwnedDeviceId::from(device.as_str());
        let name = DeviceName::new(user.to_owned(), device.clone());
        let before = record::find(tx, user, &device)?;
        let in_row = before.as_ref().and_then(|before| before.credential_key.as_deref());
        let pinned = pins::get_or_adopt(tx, &name, in_row)?;
        let read = Read::of(tx, judge, &name, keys, pinned.as_deref())?;
        let Read { key, owner_signed: signed, binding_key } = read;
        let (owner_signed, credential_key, rejection) = match (pinned, key) {
            (None, Ok(key)) if count.pin(tx, &name, &key, signed)? => (signed, Some(key), None),
            (None, Ok(_)) => (false, None, Some(DeviceFault::TooMany)),
            (Some(pinned), Ok(key)) if pinned == key => (signed, Some(pinned), None),
            (Some(pinned), Ok(_)) => (false, Some(pinned), Some(DeviceFault::Changed)),
            (pinned, Err(DeviceFault::NoCredential)) => {
                (signed, pinned, Some(DeviceFault::NoCredential))
            }
            (pinned, Err(rejection)) => (false, pinned, Some(rejection)),
        };
        let by_policy = || Rule::fault(judge.rule, &name, judge.has_identity, owner_signed);
        let rejection = rejection.or_else(by_policy);
        let record = DeviceRecord {
            name: name.clone(),
            credential_key,
            rejection,
            owner_signed,
            owner: judge.owner,
            binding_key,
        };
        let known_before = before.as_ref().map_or(Verdict::Unknown, verdict::of);
        if verdict::of(&record) != known_before {
            report.trust_changed.insert(user.to_owned());
        }
        if let Some(reason) = rejection
            && before.as_ref().and_then(|before| before.rejection) != rejection
        {
            report.rejected.push(RejectedDevice { name, reason });
        }
        if before.as_ref() != Some(&record) {
            DEVICES.put(tx, user.as_bytes(), device.as_bytes(), &record)?;
            changed = true;
        }
    }
    if changed {
        update_eligible(tx, user)?;
        silent::ask_again(tx, user)?;
    }
    Ok(changed)
}
