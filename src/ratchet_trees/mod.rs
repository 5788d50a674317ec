//! Ratchet trees as they are published: whole, or as what differs from one that was published
//! before.
//!
//! A tree that no event holds stands in the media repository. A commit changes about a kilobyte of
//! it, so most commits name a *base* and carry the nodes that differ (docs/protocol.md,
//! "Differences of trees"). A base is a whole tree, or a whole tree with a *middle* difference, and
//! nothing longer: whoever reads one fetches two values at the most.
//!
//! | to … | see |
//! |---|---|
//! | cut a tree into its nodes | `nodes` |
//! | write, read and apply a difference | `difference` |
//! | know which trees others can fetch | `bases` |
//! | decide how a tree is published | `publication` |
//! | read a tree whose group is joined | `joining` |
//!
//! Nothing here is trusted: the tree hash of the GroupInfo says whether a tree is the right one,
//! and OpenMLS compares it wherever a group is joined. A device takes as a base only what it has
//! itself computed, from its own tree or from bytes that it has fetched.

mod bases;
mod difference;
mod fingerprint;
mod joining;
mod nodes;
mod publication;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub(crate) use self::{
    bases::{Base, fetched, forget_all, forget_lost, keep, published},
    difference::{MOST_MIDDLE, put_together},
    joining::parse_tree,
    publication::{Form, publication},
};
