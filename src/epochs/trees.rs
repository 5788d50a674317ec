//! Trees of epochs, and in which of them the others are.
//!
//! A device follows commits one at a time, and each that it follows is proven by MLS. The first
//! epoch of such a chain is not: the device made the group, was let in by a Welcome, or joined by a
//! public group state. All that such a *root* leads to is a tree. That it is the room's group is
//! somebody's word; members can make as many groups under the room's id as they like, with any
//! epoch number.
//!
//! So trees are not compared by their numbers first, but by who is there: a tree has the *support*
//! of each user who was last heard in it within a day. This device's own user is one of them, and
//! is in the tree of the head if nothing was heard of them and the device has been there for an
//! hour. A message or a commit is heard; an external join is not, as anybody can make one, and
//! neither is a leaf with another's name or of a device that its user does not list. What is
//! merely claimed has no support, and takes the place of no tree that a device is in. Trees in
//! which a device is heard for more than a day, and nowhere else, are all alike: it cannot be had
//! otherwise, so the numbers decide. Devices that hear each other count the same. Where two users
//! at most have devices there is nobody else to be heard, so there the numbers decide at once.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};

use super::{graph, outsiders, record::EpochRecord};
use crate::{
    devices, homeserver_time,
    protocol::{DeviceName, EpochId, credential},
    room::{Room, member_list, membership},
    store::{Collection, StoreError, Tx},
    turn::{Consequence, Turn},
};

/// Where so many users have devices, two trees are compared by their numbers.
const FEW_USERS: usize = 2;
/// For how long a device counts as being where it was last heard, in milliseconds.
const HEARD_FOR_MS: u64 = 24 * 60 * 60 * 1000;
/// After how long in a tree a device that says nothing counts as being there, in milliseconds.
const AT_HOME_AFTER_MS: u64 = 60 * 60 * 1000;
/// The support of a tree in which a device stays.
pub(super) const LASTING: usize = usize::MAX;
/// How much later than the last time a device has to be heard for the time to be written again.
const WRITE_AGAIN_MS: u64 = 10 * 60 * 1000;

/// Where a device was last heard.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Heard {
    device: DeviceName,
    root: Option<EpochId>,
    /// Since when it is heard there and nowhere else, in milliseconds since 1970.
    since_ms: u64,
    /// When it was heard last, in milliseconds since 1970.
    at_ms: u64,
}

const HEARD: Collection<Heard> = Collection::new("heard_in_tree");

/// How many users are in each tree, or [`LASTING`]. A tree is named by its root; those of earlier
/// versions have none.
pub(super) type Support = BTreeMap<Option<EpochId>, usize>;

/// When what has come was said, if that counts: what was said more than a day ago says nothing of
/// where anybody is. The event bears the homeserver's time, so what was said first comes first, in
/// whatever order it is opened. By a clock that is off by a day, and was not compared with the
/// homeserver's, what a sync brings is said when it comes.
pub(crate) fn said_ms(
    turn: &Turn<'_>,
    server_ms: Option<u64>,
    is_news: bool,
) -> Result<Option<u64>, StoreError> {
    let now_ms = turn.now_ms;
    if let Some(server_ms) = server_ms {
        // A clock that was set since it was compared is right by now.
        for at in [homeserver_time::by_own_clock(turn.tx, server_ms)?, server_ms] {
            if now_ms.abs_diff(at) < HEARD_FOR_MS {
                return Ok(Some(at.min(now_ms)));
            }
        }
    }
    Ok(is_news.then_some(now_ms))
}

/// A device has said something in an epoch, at a time ([`said_ms`]). What it said before what was
/// heard of it last says nothing of where it is.
pub(crate) fn heard(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    device: &DeviceName,
    said_ms: u64,
) -> Result<(), StoreError> {
    let (now_ms, at_ms) = (turn.now_ms, said_ms);
    let counts = |at_ms: u64| now_ms.abs_diff(at_ms) < HEARD_FOR_MS;
    let key = credential::encode(device);
    let before = HEARD.get(turn.tx, room.as_bytes(), &key)?.filter(|before| counts(before.at_ms));
    let is_known = before.as_ref().is_some_and(|before| match before.root == epoch.root {
        true => at_ms < before.at_ms.saturating_add(WRITE_AGAIN_MS),
        false => at_ms < before.at_ms,
    });
    if is_known {
        return Ok(());
    }
    let same = before.filter(|before| before.root == epoch.root);
    let is_new = same.is_none();
    // For how long it stays is counted here: nobody has been somewhere for a day by a server's
    // word.
    let since_ms = same.map_or(now_ms, |same| same.since_ms.min(now_ms));
    let heard = Heard { device: device.clone(), root: epoch.root, since_ms, at_ms };
    HEARD.put(turn.tx, room.as_bytes(), &key, &heard)?;
    if is_new {
        turn.report(Consequence::TreeHeard);
    }
    Ok(())
}

/// In which trees of these kept epochs the others are, and this device. Nothing where there is one
/// tree, or nobody else to be heard.
pub(super) fn support(
    turn: &Turn<'_>,
    room: &Room,
    kept: &[EpochRecord],
) -> Result<Option<Support>, StoreError> {
    let (tx, now_ms, own) = (turn.tx, turn.now_ms, turn.identity.name());
    let is_one_tree = kept.iter().map(|epoch| epoch.root).collect::<BTreeSet<_>>().len() < 2;
    if is_one_tree || is_among_few(tx, room)? {
        return Ok(None);
    }
    let head = room.standing.head();
    let current = kept.iter().find(|epoch| Some(epoch.id) == head);
    let mut support = Support::new();
    // Where each user was heard last, on whichever device.
    let mut last: BTreeMap<OwnedUserId, (u64, Option<EpochId>)> = BTreeMap::new();
    for heard in HEARD.list(tx, room.id.as_bytes())? {
        // Either way: a clock that was set back makes nobody be heard for longer.
        if now_ms.abs_diff(heard.at_ms) >= HEARD_FOR_MS {
            HEARD.delete(tx, room.id.as_bytes(), &credential::encode(&heard.device))?;
            continue;
        }
        let user = &heard.device.user_id;
        let is_own = heard.device == own;
        // A device that its user does not list is not where the user is.
        if !membership::is_joined(tx, &room.id, user)?
            || (!is_own && outsiders::is_one(tx, room, &heard.device)?)
        {
            continue;
        }
        let stays = now_ms.saturating_sub(heard.since_ms) >= HEARD_FOR_MS;
        if stays && !is_own {
            support.insert(heard.root, LASTING);
        }
        let at = (heard.at_ms, heard.root);
        let latest = last.entry(user.clone()).or_insert(at);
        *latest = (*latest).max(at);
    }
    if let Some(current) = current
        && is_at_home(turn, &room.id, current.root)?
    {
        last.entry(own.user_id).or_insert((now_ms, current.root));
    }
    for (_, root) in last.into_values() {
        let there: &mut usize = support.entry(root).or_default();
        *there = there.saturating_add(1);
    }
    if let Some(current) = current {
        // What nobody is heard in does not take the place of what this device is in.
        support.entry(current.root).or_insert(1);
    }
    Ok(Some(support))
}

/// Whether this device has been in a tree for a while. One that has just come in, and is let into
/// another at the same time, has no reason to stay in the first.
fn is_at_home(turn: &Turn<'_>, room: &RoomId, root: Option<EpochId>) -> Result<bool, StoreError> {
    let root = match root {
        Some(root) => graph::find(turn.tx, room, root)?,
        None => None,
    };
    Ok(root.is_none_or(|root| turn.has_passed(root.since_ms, AT_HOME_AFTER_MS)))
}

/// Whether two users at most have devices in the room.
fn is_among_few(tx: &Tx<'_>, room: &Room) -> Result<bool, StoreError> {
    if !member_list::was_seen(tx, &room.id)? {
        return Ok(false);
    }
    let mut users = 0;
    for user in membership::users_of_group(tx, room)? {
        users += usize::from(devices::may_have_devices(tx, &user)?);
        if users > FEW_USERS {
            return Ok(false);
        }
    }
    Ok(true)
}
