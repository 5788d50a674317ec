//! What this device has on the homeserver, and the uploads of what is missing there.
//!
//! An upload is planned once: its key packages are made and its plan is stored in one transaction.
//! Until the homeserver confirms the upload, planning again gives the same plan with the same keys.
//! So a crash at any point loses no private key, and sending an upload twice does no harm.

use std::collections::{BTreeMap, HashMap};

use openmls::prelude::{Ciphersuite, KeyPackageRef};
use ruma::{api::client::keys::upload_keys, serde::Raw};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::to_raw_value};

use super::{
    binding::is_bound,
    crypto::Crypto,
    device::{Identity, IdentityError, Publishing, encoding},
    key_packages::{self, EARLIEST_S, PackageUse},
    provider::Provider,
};
use crate::{
    protocol::identifiers,
    store::{Collection, MlsStorage, Namespace, StoreError, Tx},
};

/// How many one-time packages the homeserver should hold.
const TARGET: u64 = 50;

/// What the homeserver holds of this device, as far as it has said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    device_keys: bool,
    one_time: u64,
    fallback_used: bool,
    /// The number of the newest plan. Numbers are never reused.
    #[serde(default)]
    last_plan: u64,
    /// Until when no old package is taken back, in seconds since 1970.
    #[serde(default)]
    rests_until_s: u64,
    /// An empty map of counts was believed, and no sync has named a count since.
    #[serde(default)]
    empty_believed: bool,
}

/// How long no old package is taken back after one could not be, in seconds.
const REST_S: u64 = 24 * 60 * 60;

const PUBLISHED: Collection<Published> = Collection::new("published_keys");
/// The plan that the homeserver has not confirmed yet.
const PENDING: Collection<UploadPlan> = Collection::new("pending_upload");

/// What an upload brings to the homeserver.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UploadPlan {
    number: u64,
    suite: u16,
    device_keys: bool,
    pub(super) one_time: Vec<KeyPackageRef>,
    pub(super) fallback: Option<KeyPackageRef>,
}

/// The time in seconds since 1970, or the earliest that it can be where the clock shows less.
fn plausible(now_ms: u64) -> u64 {
    (now_ms / 1000).max(EARLIEST_S)
}

fn published(tx: &Tx<'_>) -> Result<Published, StoreError> {
    Ok(PUBLISHED.get(tx, b"", b"")?.unwrap_or_default())
}

/// Whether others can tell that this device's leaves are its own: it publishes its credential, or
/// has its binding. A device beside Olm of an earlier version has published its credential if it
/// has ever planned to upload anything.
pub(crate) fn can_be_recognised(tx: &Tx<'_>, identity: &Identity) -> Result<bool, StoreError> {
    Ok(identity.publishing == Publishing::Alone || is_bound(tx)? || published(tx)?.last_plan > 0)
}

/// Whether this store's device keys are known to be on the homeserver.
pub(crate) fn has_published_keys(tx: &Tx<'_>) -> Result<bool, StoreError> {
    Ok(published(tx)?.device_keys)
}

/// Whether counts speak of key packages though this store never made any: the store that did was
/// lost, or another app uses the device's id. Beside Olm nothing else says so, as the device's
/// published keys are the Olm machine's.
pub(crate) fn are_of_lost_store(
    tx: &Tx<'_>,
    identity: &Identity,
    one_time: Option<&HashMap<String, u64>>,
    unused_fallback: Option<&[String]>,
) -> Result<bool, StoreError> {
    if identity.publishing != Publishing::BesideOlm || published(tx)?.last_plan > 0 {
        return Ok(false);
    }
    let has_one_time =
        one_time.is_some_and(|counts| count_key_packages(counts, identity.suite) > 0);
    let mut fallback = unused_fallback.into_iter().flatten();
    let suite = identity.suite;
    Ok(has_one_time
        || fallback.any(|algorithm| identifiers::is_key_package_algorithm(algorithm, suite)))
}

/// Whether the answer to the first upload of this store counts more key packages than that brought:
/// likewise.
pub(crate) fn finds_lost_store(identity: &Identity, plan: &UploadPlan, body: &[u8]) -> bool {
    if identity.publishing != Publishing::BesideOlm || plan.number > 1 {
        return false;
    }
    counts_in(body).is_some_and(|counts| {
        count_key_packages(&counts, identity.suite) > plan.one_time.len() as u64
    })
}

/// Takes in a sync's counts. What the sync does not mention stays unchanged.
///
/// An empty map says as little as an absent one, because some libraries cannot tell the two apart
/// and give an empty one with every sync. A homeserver that leaves out what is zero could mean it,
/// so it counts when the same sync says that the fallback key is in use, as that is only handed out
/// when nothing else is left. It counts once until a sync names a count again.
pub(crate) fn note_counts(
    tx: &Tx<'_>,
    suite: Ciphersuite,
    one_time: Option<&HashMap<String, u64>>,
    unused_fallback: Option<&[String]>,
) -> Result<(), StoreError> {
    let before = published(tx)?;
    let mut known = before.clone();
    let fallback_used = unused_fallback.map(|unused| {
        !unused.iter().any(|algorithm| identifiers::is_key_package_algorithm(algorithm, suite))
    });
    if let Some(counts) = one_time {
        let is_believed = fallback_used == Some(true) && !known.empty_believed;
        if !counts.is_empty() || is_believed {
            known.one_time = count_key_packages(counts, suite);
            known.empty_believed = counts.is_empty();
        }
    }
    if let Some(used) = fallback_used {
        known.fallback_used = used;
    }
    // Most syncs bring nothing new and should cost no write.
    if known != before {
        PUBLISHED.put(tx, b"", b"", &known)?;
    }
    Ok(())
}

/// The number of key packages among the counts. An algorithm with no key left is not mentioned.
fn count_key_packages<'a>(
    counts: impl IntoIterator<Item = (&'a String, &'a u64)>,
    suite: Ciphersuite,
) -> u64 {
    counts
        .into_iter()
        .filter(|(algorithm, _)| identifiers::is_key_package_algorithm(algorithm, suite))
        .fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// Makes what is missing on the homeserver, and the request that uploads it; `None` if nothing is
/// missing. While an upload is unconfirmed, this gives that upload again.
pub(crate) fn plan_upload(
    tx: &Tx<'_>,
    crypto: &Crypto,
    identity: &Identity,
    now_ms: u64,
) -> Result<Option<(UploadPlan, upload_keys::v3::Request)>, IdentityError> {
    if !can_be_recognised(tx, identity)? {
        // Whoever claims such a package could not tell whose it is.
        return Ok(None);
    }
    let now_s = plausible(now_ms);
    let provider = Provider::new(crypto, MlsStorage::new(tx, Namespace::GLOBAL));
    key_packages::delete_expired(tx, &provider, now_s)?;
    if let Some(unconfirmed) = unconfirmed_upload(tx, &provider, identity, now_s)? {
        return Ok(Some(unconfirmed));
    }
    let Some(plan) = new_plan(tx, &provider, identity, now_s)? else { return Ok(None) };
    let request = request(tx, &provider, identity, &plan, now_s)?;
    Ok(Some((plan, request)))
}

/// The upload that the homeserver has not confirmed yet, if anything of it is left.
fn unconfirmed_upload(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    identity: &Identity,
    now_s: u64,
) -> Result<Option<(UploadPlan, upload_keys::v3::Request)>, IdentityError> {
    let Some(plan) = PENDING.get(tx, b"", b"")? else { return Ok(None) };
    let request = request(tx, provider, identity, &plan, now_s)?;
    let is_empty = request.device_keys.is_none()
        && request.one_time_keys.is_empty()
        && request.fallback_keys.is_empty();
    if is_empty {
        // Everything in it was used or has become too old before the answer came.
        PENDING.delete(tx, b"", b"")?;
        return Ok(None);
    }
    Ok(Some((plan, request)))
}

/// Makes what is missing on the homeserver, and stores the plan that uploads it.
fn new_plan(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    identity: &Identity,
    now_s: u64,
) -> Result<Option<UploadPlan>, IdentityError> {
    let mut known = published(tx)?;
    let packages = key_packages::list(tx)?;
    let one_time = packages.iter().filter(|package| package.is_good_one_time(now_s)).count() as u64;
    let missing = TARGET.saturating_sub(one_time.min(known.one_time));
    let has_fallback =
        !known.fallback_used && packages.iter().any(|package| package.is_good_fallback(now_s));
    let device_keys = identity.publishing == Publishing::Alone && !known.device_keys;
    if missing == 0 && has_fallback && !device_keys {
        return Ok(None);
    }

    known.last_plan = known.last_plan.saturating_add(1);
    PUBLISHED.put(tx, b"", b"", &known)?;
    let make = |package_use| key_packages::make(tx, provider, identity, package_use, now_s);
    let plan = UploadPlan {
        number: known.last_plan,
        suite: identity.suite.into(),
        device_keys,
        one_time: (0..missing).map(|_| make(PackageUse::OneTime)).collect::<Result<_, _>>()?,
        fallback: if has_fallback { None } else { Some(make(PackageUse::LastResort)?) },
    };
    PENDING.put(tx, b"", b"", &plan)?;
    Ok(Some(plan))
}

/// The request of a plan: the same each time, except that packages that are no longer kept, or are
/// too old by now, are left out.
fn request(
    tx: &Tx<'_>,
    provider: &Provider<'_>,
    identity: &Identity,
    plan: &UploadPlan,
    now_s: u64,
) -> Result<upload_keys::v3::Request, IdentityError> {
    let mut request = upload_keys::v3::Request::new();
    // An Olm machine may have been added since the plan was made. It uploads its own device keys.
    if plan.device_keys && identity.publishing == Publishing::Alone {
        let keys = to_raw_value(&identity.own_device_keys()?).map_err(encoding)?;
        request.device_keys = Some(Raw::from_json(keys));
    }
    let form = |reference| key_packages::uploaded_form(tx, provider, identity, reference, now_s);
    for reference in &plan.one_time {
        request.one_time_keys.extend(form(reference)?);
    }
    if let Some(reference) = &plan.fallback {
        request.fallback_keys.extend(form(reference)?);
    }
    Ok(request)
}

/// The counts in the answer to an upload.
fn counts_in(body: &[u8]) -> Option<BTreeMap<String, u64>> {
    // Not a derived struct: serde would accept an array for it.
    let mut answer: BTreeMap<String, Value> = serde_json::from_slice(body).ok()?;
    serde_json::from_value(answer.remove("one_time_key_counts")?).ok()
}

/// Marks an upload as taken by the homeserver. A repeated confirmation, or one of another upload
/// than the unconfirmed one, changes nothing.
pub(crate) fn mark_uploaded(
    tx: &Tx<'_>,
    plan: &UploadPlan,
    body: &[u8],
    now_ms: u64,
) -> Result<(), IdentityError> {
    let counts = counts_in(body).ok_or(IdentityError::MalformedAnswer)?;
    let suite = Ciphersuite::try_from(plan.suite)
        .map_err(|_| StoreError::Damaged("an upload's ciphersuite is unknown".into()))?;
    if PENDING.get(tx, b"", b"")?.is_none_or(|pending| pending.number != plan.number) {
        return Ok(());
    }
    PENDING.delete(tx, b"", b"")?;

    let references: Vec<_> = plan.one_time.iter().chain(&plan.fallback).cloned().collect();
    key_packages::mark_published(tx, &references, plausible(now_ms))?;
    let mut known = published(tx)?;
    // What was just uploaded counts as held, whatever the answer says: otherwise a homeserver that
    // always answers with zero would be sent packages without end.
    known.one_time = count_key_packages(&counts, suite).max(plan.one_time.len() as u64);
    known.device_keys |= plan.device_keys;
    known.fallback_used &= plan.fallback.is_none();
    Ok(PUBLISHED.put(tx, b"", b"", &known)?)
}

/// Whether the homeserver may still hold one-time packages that should go: this device then claims
/// one of its own, as homeservers hand out the oldest first.
pub(crate) fn has_old_packages(tx: &Tx<'_>, now_ms: u64) -> Result<bool, StoreError> {
    let now_s = plausible(now_ms);
    let known = published(tx)?;
    let rests = known.rests_until_s > now_s
        // A time further ahead than any rest comes from a clock that has been set back since.
        && known.rests_until_s <= now_s.saturating_add(REST_S);
    if rests {
        return Ok(false);
    }
    let packages = key_packages::list(tx)?;
    let good = packages.iter().filter(|package| package.is_good_one_time(now_s)).count() as u64;
    Ok(known.one_time > good && packages.iter().any(|package| package.is_stale_one_time(now_s)))
}

/// Takes in what came of claiming one of this device's own packages: the key id without its
/// algorithm, if there was one. Where it was none that should go, the rest are gone too, or the
/// homeserver does as it likes: the device leaves it at that for a day.
pub(crate) fn take_back(
    tx: &Tx<'_>,
    crypto: &Crypto,
    key_id: Option<&str>,
    now_ms: u64,
) -> Result<(), StoreError> {
    let now_s = plausible(now_ms);
    let provider = Provider::new(crypto, MlsStorage::new(tx, Namespace::GLOBAL));
    let mut known = published(tx)?;
    let was_old = match key_id {
        Some(id) => key_packages::take_back(tx, &provider, id, now_s)?,
        None => false,
    };
    known.one_time = known.one_time.saturating_sub(1);
    if !was_old {
        known.rests_until_s = now_s.saturating_add(REST_S);
    }
    PUBLISHED.put(tx, b"", b"", &known)
}
