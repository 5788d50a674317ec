//! How the tree of a commit is published: whole, as a middle difference, or in the event.
//!
//! Bytes decide. Each difference in an event grows with the commits since its base, until a middle
//! difference is cheaper; each middle difference grows with the commits since its whole tree. With
//! W the bytes of the tree and I those of the largest difference in an event, the uploads of a
//! cycle are fewest where the last middle difference has the square root of 2 W I.

use ruma::RoomId;

use super::{
    bases::{self, Base},
    difference::{Changes, MOST_MIDDLE},
    fingerprint::Fingerprint,
    nodes::Nodes,
};
use crate::{
    failure::Failure,
    protocol::{GroupName, MediaReference},
    turn::Turn,
};

/// The largest difference that stands in an event, in bytes.
const MOST_INLINE: usize = 20_000;

/// How a tree is published.
#[derive(Debug)]
pub(crate) enum Form {
    /// The whole tree is uploaded.
    Whole,
    /// What differs from a whole tree is uploaded.
    Middle { whole: MediaReference, difference: Vec<u8> },
    /// What differs stands in the event.
    Inline { whole: MediaReference, middle: Option<MediaReference>, nodes: Vec<u8> },
}

/// A tree that is about to be published.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) form: Form,
    /// What later commits can name once it is published; nothing where it stands in the event.
    pub(crate) base: Option<Base>,
}

/// How to publish a tree of a group that so many Welcomes will name.
pub(crate) fn publication(
    turn: &Turn<'_>,
    room: &RoomId,
    group: GroupName,
    tree: &[u8],
    welcomes: usize,
) -> Result<Publication, Failure> {
    // A tree that is too large to be cut is published as it is.
    let Ok(nodes) = Nodes::read(tree) else {
        return Ok(Publication { form: Form::Whole, base: None });
    };
    let fingerprint = Fingerprint::of(&nodes);
    let bases = bases::usable(turn, room, group)?;
    let changes: Vec<_> =
        bases.iter().map(|base| Changes::new(&base.fingerprint, &fingerprint, &nodes)).collect();
    let all = || bases.iter().zip(&changes);
    let is_small = |size: usize| size.saturating_mul(welcomes.max(1)) <= MOST_INLINE;
    if let Some((base, changes)) = all().min_by_key(|(_, changes)| changes.size)
        && is_small(changes.size)
    {
        let Base { whole, middle, .. } = base.clone();
        let form = Form::Inline { whole, middle, nodes: changes.write(&nodes)? };
        return Ok(Publication { form, base: None });
    }
    let wholes = all().filter(|(base, _)| base.middle.is_none());
    if let Some((base, changes)) = wholes.min_by_key(|(_, changes)| changes.size)
        && is_middle(changes.size, tree.len())
    {
        let difference = changes.write(&nodes)?;
        let middle = Some(MediaReference::to(&difference));
        let whole = base.whole.clone();
        let base = Base { middle, fingerprint, ..base.clone() };
        return Ok(Publication { form: Form::Middle { whole, difference }, base: Some(base) });
    }
    let whole = MediaReference::to(tree);
    let base = Base { group, whole, middle: None, fingerprint, since_ms: turn.now_ms };
    Ok(Publication { form: Form::Whole, base: Some(base) })
}

/// Whether a difference of so many bytes is uploaded rather than a whole tree.
fn is_middle(size: usize, tree: usize) -> bool {
    size <= MOST_MIDDLE
        && size <= tree / 2
        && size.saturating_mul(size) <= tree.saturating_mul(2 * MOST_INLINE)
}
