//! Ratchet trees that nobody can fetch any more: a server has deleted a value, or never had it.
//!
//! Many commits name one base, so its loss would keep newcomers out until a whole tree is published
//! again. A device that would join, and cannot have the tree, asks one device of the room's users
//! after the other for it (`wanted`): whoever made the commit first, and then as the hash of the
//! commit with its name says. Whoever is asked uploads the whole tree and says where it is
//! (`given`). That is done for devices that may be in the group, by the first few members in the
//! order of those hashes, and a few times a day; so asking everybody makes no storm of uploads.
//!
//! A tree that is given is as good as any: the tree hash of the GroupInfo says whether it is right.
//! Whoever joins by it publishes a whole tree, and all members build on that.

mod content;
mod given;
mod wanted;

pub(crate) use self::{
    content::{TreeOffer, TreeRequest},
    given::{answer, asked, uploaded},
    wanted::{ask, came, offered, refuse, want},
};
