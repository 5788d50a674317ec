//! The ratchet tree that a commit or a Welcome names: fetching what it is made of, and putting it
//! together.
//!
//! A tree is one value in the media repository, or a whole tree, at most one middle difference, and
//! what stands in the event (`ratchet_trees`). So two values are fetched at the most, whatever was
//! named. Whether the tree is the right one is for whoever joins to see: the GroupInfo has its
//! hash.

use ruma::RoomId;

use super::{error::EventError, media};
use crate::{
    protocol::{GroupName, MediaReference, PayloadError, TreeDifference, decode_base64},
    ratchet_trees::{self, MOST_MIDDLE},
    rejection::Rejection,
    store::StoreError,
    turn::Turn,
};

/// Where a ratchet tree is.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    /// The whole tree.
    pub(crate) whole: Option<&'a MediaReference>,
    /// What leads to it, where it is not named whole.
    pub(crate) difference: Option<&'a TreeDifference>,
}

/// A ratchet tree that was fetched.
pub(crate) struct Fetched {
    /// The tree, as the extension `ratchet_tree` has it.
    pub(crate) tree: Vec<u8>,
    /// The whole tree that others can name, and the one to which the middle difference leads.
    whole: (MediaReference, Vec<u8>),
    middle: Option<(MediaReference, Vec<u8>)>,
}

impl<'a> Named<'a> {
    /// The values in the media repository of which the tree is made.
    pub(crate) fn values(self) -> impl Iterator<Item = &'a MediaReference> {
        let difference = self.difference.filter(|_| self.whole.is_none());
        let of_difference = difference
            .into_iter()
            .flat_map(|difference| [Some(&difference.whole), difference.middle.as_ref()]);
        self.whole.into_iter().chain(of_difference.flatten())
    }

    /// The tree, once all values are here; nothing where the GroupInfo has it.
    pub(crate) fn fetch(
        self,
        turn: &Turn<'_>,
        room: &RoomId,
    ) -> Result<Option<Fetched>, EventError> {
        if let Some(difference) = self.difference.filter(|_| self.whole.is_none()) {
            check(difference)?;
        }
        let mut fetched = Vec::new();
        let mut awaits = None;
        // All that is missing is asked for at once.
        for value in self.values() {
            match media::blob(turn, room, value) {
                Ok(bytes) => fetched.push((value.clone(), bytes)),
                Err(error @ EventError::Awaits(_)) => awaits = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = awaits {
            return Err(error);
        }
        let mut fetched = fetched.into_iter();
        let Some(whole) = fetched.next() else { return Ok(None) };
        let mut tree = whole.1.clone();
        let mut middle = None;
        if let Some((reference, difference)) = fetched.next() {
            tree = ratchet_trees::put_together(tree, &[difference])?;
            middle = Some((reference, tree.clone()));
        }
        if let (None, Some(TreeDifference { nodes: Some(nodes), .. })) =
            (self.whole, self.difference)
        {
            let nodes = decode_base64(nodes).ok_or(PayloadError::NotBase64)?;
            tree = ratchet_trees::put_together(tree, &[nodes])?;
        }
        Ok(Some(Fetched { tree, whole, middle }))
    }

    /// The values are needed no more.
    pub(crate) fn used(self, turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
        for value in self.values() {
            media::used(turn, room, value.hash())?;
        }
        Ok(())
    }
}

impl Fetched {
    /// Keeps what later commits of this device can name.
    pub(crate) fn keep(
        &self,
        turn: &Turn<'_>,
        room: &RoomId,
        group: GroupName,
    ) -> Result<(), StoreError> {
        let whole = (&self.whole.0, &*self.whole.1);
        let middle = self.middle.as_ref().map(|(reference, tree)| (reference, &**tree));
        ratchet_trees::fetched(turn, room, group, whole, middle)
    }
}

/// What can be said of a difference before anything is fetched.
fn check(difference: &TreeDifference) -> Result<(), Rejection> {
    if difference.middle.as_ref().is_some_and(|middle| middle.size > MOST_MIDDLE as u64) {
        return Err(Rejection::BadTreeDifference("the difference is larger than any tree needs"));
    }
    if difference.middle.is_none() && difference.nodes.is_none() {
        return Err(Rejection::BadTreeDifference("nothing leads from the whole tree to the tree"));
    }
    Ok(())
}
