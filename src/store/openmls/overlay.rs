//! Moving rows between an epoch's state and the state it was made from.

use serde::Serialize;

use super::{
    kind::Kind,
    rows::{copy_inherited, put_payload},
    storage::MlsStorage,
};
use crate::store::{Namespace, StoreError, Tx};

impl MlsStorage<'_> {
    /// What OpenMLS last wrote with `write_message_secrets` for this group in this namespace, as
    /// CBOR.
    pub fn message_secrets_cbor(
        &self,
        group_id: &impl Serialize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.read_row(Kind::MessageSecrets, group_id)?;
        Ok(row.map(|opened| opened.payload().to_vec()))
    }

    /// Gives the parent the message secrets that the child has of it, with the ratchets moved on. Made
    /// for a commit that a child sealed with the parent's keys: the next one that is sealed from the same
    /// parent must not use the same.
    pub fn hand_up_message_secrets(&self, group_id: &impl Serialize) -> Result<(), StoreError> {
        let (Some(parent), Some(secrets)) =
            (self.parent, self.read_row(Kind::MessageSecrets, group_id)?)
        else {
            return Ok(());
        };
        put_payload(self.tx, parent, Kind::MessageSecrets, group_id, secrets.payload())
    }
}

impl Tx<'_> {
    /// Copies from `parent` every OpenMLS row that `child` neither has nor has deleted, and
    /// forgets the deletions: afterwards `child` stands alone.
    pub fn detach_namespace(&self, child: Namespace, parent: Namespace) -> Result<(), StoreError> {
        if child == parent {
            return Ok(());
        }
        copy_inherited(self, child, parent)?;
        self.execute("DELETE FROM mls_row WHERE namespace = ?1 AND value IS NULL", [child.id()])?;
        Ok(())
    }
}
