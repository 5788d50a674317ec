//! The published trees that this device can name as a base.
//!
//! A base is known by what this device has seen for itself: it has uploaded the value, or has
//! fetched it, or was in the epoch whose commit named it and came to the same hash from its own
//! tree. A member who names another tree than the group's makes no base. A member who names the
//! right hash and never uploads it does, until somebody cannot fetch it: then whoever joins
//! publishes a whole tree, and the newest bases are kept.

use openmls::group::MlsGroup;
use ruma::RoomId;
use serde::{Deserialize, Serialize};
use tls_codec::Serialize as _;

use super::{difference::Changes, fingerprint::Fingerprint, nodes::Nodes};
use crate::{
    failure::Failure,
    protocol::{CommitContent, GroupName, MediaReference, TreeDifference},
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// How many whole trees of one room are kept as bases, and how many middle differences. Each branch
/// of a fork finds one of its own.
const MOST_OF_A_KIND: usize = 2;
/// For how long a whole tree is named after it was published, in milliseconds: a week. Homeservers
/// delete media of others after some time.
const LONGEST_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A published tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Base {
    /// The group whose tree it is.
    pub(super) group: GroupName,
    pub(super) whole: MediaReference,
    /// What leads from the whole tree to this one, if this one is not the whole tree.
    pub(super) middle: Option<MediaReference>,
    pub(super) fingerprint: Fingerprint,
    /// When this device came to know the whole tree, in milliseconds since 1970.
    pub(super) since_ms: u64,
}

const BASES: Collection<Base> = Collection::new("published_tree");

impl Base {
    /// The value that leads to it last.
    fn last(&self) -> &MediaReference {
        self.middle.as_ref().unwrap_or(&self.whole)
    }

    /// The same, with the URLs that a commit's content has now.
    pub(crate) fn uploaded_as(mut self, content: &CommitContent) -> Self {
        if let Some(whole) = &content.ratchet_tree {
            self.whole = whole.clone();
        } else if let Some(difference) = &content.tree_difference {
            self.whole = difference.whole.clone();
            self.middle.clone_from(&difference.middle);
        }
        self
    }
}

/// The bases of a group that can be named now.
pub(super) fn usable(
    turn: &Turn<'_>,
    room: &RoomId,
    group: GroupName,
) -> Result<Vec<Base>, StoreError> {
    let mut bases = BASES.list(turn.tx, room.as_bytes())?;
    bases.retain(|base| base.group == group && !turn.has_passed(base.since_ms, LONGEST_MS));
    Ok(bases)
}

/// Keeps a base. The oldest of its kind gives way.
pub(crate) fn keep(turn: &Turn<'_>, room: &RoomId, base: &Base) -> Result<(), StoreError> {
    let Some(key) = base.last().hash() else { return Ok(()) };
    let scope = room.as_bytes();
    // What is written anew stands last.
    BASES.delete(turn.tx, scope, &key)?;
    BASES.put(turn.tx, scope, &key, base)?;
    let all = BASES.list(turn.tx, scope)?;
    let of_a_kind = all.iter().filter(|other| other.middle.is_some() == base.middle.is_some());
    for surplus in of_a_kind.rev().skip(MOST_OF_A_KIND) {
        if let Some(key) = surplus.last().hash() {
            BASES.delete(turn.tx, scope, &key)?;
        }
    }
    Ok(())
}

/// Takes in what a commit of another device publishes, once this device is in its epoch.
pub(crate) fn published(
    turn: &Turn<'_>,
    room: &RoomId,
    name: GroupName,
    group: &MlsGroup,
    content: &CommitContent,
) -> Result<(), Failure> {
    let middle = match (&content.ratchet_tree, &content.tree_difference) {
        (Some(_), _) => None,
        (None, Some(TreeDifference { middle: Some(middle), nodes: None, .. })) => Some(middle),
        _ => return Ok(()),
    };
    let tree = tree_of(group)?;
    let Ok(nodes) = Nodes::read(&tree) else { return Ok(()) };
    let fingerprint = Fingerprint::of(&nodes);
    let base = match (&content.ratchet_tree, &content.tree_difference, middle) {
        (Some(whole), _, _) if whole.fits(&tree) => {
            let (whole, since_ms) = (whole.clone(), turn.now_ms);
            Base { group: name, whole, middle: None, fingerprint, since_ms }
        }
        (None, Some(difference), Some(middle)) => {
            let bases = usable(turn, room, name)?;
            let is_named = |base: &&Base| {
                base.middle.is_none() && base.whole.hash() == difference.whole.hash()
            };
            let Some(whole) = bases.iter().find(is_named) else { return Ok(()) };
            let changes = Changes::new(&whole.fingerprint, &fingerprint, &nodes);
            if !middle.fits(&changes.write(&nodes)?) {
                return Ok(());
            }
            Base { middle: Some(middle.clone()), fingerprint, ..whole.clone() }
        }
        _ => return Ok(()),
    };
    Ok(keep(turn, room, &base)?)
}

/// Takes in a tree that this device has fetched: the whole one, and the one to which the middle
/// difference leads.
pub(crate) fn fetched(
    turn: &Turn<'_>,
    room: &RoomId,
    group: GroupName,
    whole: (&MediaReference, &[u8]),
    middle: Option<(&MediaReference, &[u8])>,
) -> Result<(), StoreError> {
    // Whoever named them may have named anything.
    let Ok(nodes) = Nodes::read(whole.1) else { return Ok(()) };
    let known = usable(turn, room, group)?;
    let since_ms = known.iter().find(|base| base.whole.hash() == whole.0.hash());
    let base = Base {
        group,
        whole: whole.0.clone(),
        middle: None,
        fingerprint: Fingerprint::of(&nodes),
        since_ms: since_ms.map_or(turn.now_ms, |base| base.since_ms),
    };
    keep(turn, room, &base)?;
    if let Some((reference, tree)) = middle
        && let Ok(nodes) = Nodes::read(tree)
    {
        let middle = Some(reference.clone());
        keep(turn, room, &Base { middle, fingerprint: Fingerprint::of(&nodes), ..base })?;
    }
    Ok(())
}

/// A value could not be fetched: nothing is built on it any more.
pub(crate) fn forget_lost(
    turn: &Turn<'_>,
    room: &RoomId,
    lost: &MediaReference,
) -> Result<(), StoreError> {
    let is_lost = |reference: &MediaReference| reference.hash() == lost.hash();
    for base in BASES.list(turn.tx, room.as_bytes())? {
        if (is_lost(&base.whole) || base.middle.as_ref().is_some_and(is_lost))
            && let Some(key) = base.last().hash()
        {
            BASES.delete(turn.tx, room.as_bytes(), &key)?;
        }
    }
    Ok(())
}

/// Forgets all of a room that this device has left.
pub(crate) fn forget_all(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    BASES.delete_scope(tx, room.as_bytes()).map(drop)
}

/// A group's tree as it is published.
pub(super) fn tree_of(group: &MlsGroup) -> Result<Vec<u8>, Failure> {
    group
        .export_ratchet_tree()
        .tls_serialize_detached()
        .map_err(|error| Failure::defect("ratchet_tree", error))
}
