//! What the homeserver says of this very device and its user's others, compared with what is so.
//!
//! Others know this device only by what the homeserver hands out for it. So the device looks itself
//! up among its user's devices, and says so when it is left out or changed. A device of its user's
//! that the user has not signed is told by name.

use ruma::{CanonicalJsonObject, OwnedDeviceId};
use serde::{Deserialize, Serialize};

use crate::{
    devices,
    exported::Update,
    failure::Failure,
    identity::{self, Publishing},
    store::Collection,
    turn::Turn,
};

/// What is wrong with what the homeserver hands out for this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Lie {
    /// The device is left out.
    Missing,
    /// Its keys or signatures are not what it has uploaded.
    Altered,
}

/// What was found, and whether the app was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    lie: Lie,
    told: bool,
}

const FOUND: Collection<Found> = Collection::new("own_device_lie");

/// Looks at an answer about the own user, which has just been taken in.
pub(crate) fn look_at_own_devices(
    turn: &Turn<'_>,
    unsigned: Vec<OwnedDeviceId>,
) -> Result<(), Failure> {
    if turn.identity.publishing() == Publishing::BesideOlm {
        return Ok(());
    }
    for device_id in unsigned {
        turn.tell(Update::UnsignedOwnDevice { device_id: device_id.to_string() });
    }
    let before = FOUND.get(turn.tx, b"", b"")?;
    let Some(lie) = lie(turn)? else {
        if before.is_some() {
            FOUND.delete(turn.tx, b"", b"")?;
        }
        return Ok(());
    };
    if before.is_some_and(|before| before.told && before.lie == lie) {
        return Ok(());
    }
    // An answer without the device may be older than the upload of its keys. The next one is not.
    let told = lie == Lie::Altered || before.is_some();
    if told {
        tell(turn, lie);
    }
    Ok(FOUND.put(turn.tx, b"", b"", &Found { lie, told })?)
}

fn lie(turn: &Turn<'_>) -> Result<Option<Lie>, Failure> {
    if !identity::has_published_keys(turn.tx)? {
        return Ok(None);
    }
    let device_id = turn.identity.name().device_id;
    let own = turn.identity.own_device_keys();
    let own = own.map_err(|error| Failure::defect("device_keys", error))?;
    Ok(match devices::published_object(turn.tx, &device_id)? {
        None => Some(Lie::Missing),
        Some(published) => {
            let is_own = bare(published) == bare(own)
                && devices::is_consistent(turn.tx, &turn.identity.name())?;
            (!is_own).then_some(Lie::Altered)
        }
    })
}

fn bare(mut object: CanonicalJsonObject) -> CanonicalJsonObject {
    object.remove("signatures");
    object
}

fn tell(turn: &Turn<'_>, lie: Lie) {
    let (code, reason) = match lie {
        Lie::Missing => ("missing", "the homeserver lists this device no longer"),
        Lie::Altered => ("altered", "the homeserver hands out other keys than were uploaded"),
    };
    tracing::warn!(code, "{reason}");
    turn.tell(Update::OwnDeviceAltered { code: code.to_owned(), reason: reason.to_owned() });
}
