//! OpenMLS's storage in one namespace, or in an overlay of two.

use crate::store::{Namespace, Tx};

/// OpenMLS's `StorageProvider` in one namespace, or in an overlay of a child over its parent.
///
/// Rows that belong to no group are in [`Namespace::GLOBAL`], whichever namespace this storage is
/// for. Their deletion is final.
pub struct MlsStorage<'a> {
    pub(super) tx: &'a Tx<'a>,
    pub(super) namespace: Namespace,
    pub(super) parent: Option<Namespace>,
}

impl<'a> MlsStorage<'a> {
    /// Reads and writes `namespace`.
    pub fn new(tx: &'a Tx<'a>, namespace: Namespace) -> Self {
        Self { tx, namespace, parent: None }
    }

    /// Reads `child`, then `parent`; writes `child`. A deletion is remembered in `child`; `parent`
    /// never changes.
    pub fn child(tx: &'a Tx<'a>, parent: Namespace, child: Namespace) -> Self {
        Self { tx, namespace: child, parent: Some(parent) }
    }
}
