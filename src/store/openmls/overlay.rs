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
    /// `packed` writes it.
    pub fn message_secrets_bytes(
        &self,
        group_id: &impl Serialize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.read_row(Kind::MessageSecrets, group_id)?;
        Ok(row.map(|opened| opened.payload().to_vec()))
    }

    /// Gives the parent the child's message secrets, whose ratchets have moved on. It is called
    /// after a child has sealed a commit with the parent's keys: the next commit that is sealed
    /// from the same parent must not use the same keys.
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
    /// Detaches `child` from `parent`: copies every OpenMLS row that `child` neither has nor has
    /// deleted, and forgets the deletions.
    pub fn detach_namespace(&self, child: Namespace, parent: Namespace) -> Result<(), StoreError> {
        if child == parent {
            return Ok(());
        }
        copy_inherited(self, child, parent)?;
        self.execute("DELETE FROM mls_row WHERE namespace = ?1 AND value IS NULL", [child.id()])?;
        Ok(())
    }
}
