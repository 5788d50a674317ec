//! What tells whether the rows of a namespace are still those that they were.

use super::rows::len_in_pieces;
use crate::store::{Namespace, StoreError, Tx};

/// The length of the nonce at the end of a sealed value.
const NONCE_LEN: usize = 24;

/// The rows that a namespace had at one moment.
///
/// Each time a row is written it is sealed with a nonce of its own, drawn at random. So two marks
/// are equal only if nothing was written or deleted between them, or if what was written was
/// undone, whether by this opener of the store or another, and whatever became of the file in
/// between.
#[derive(PartialEq, Eq)]
pub struct RowsMark(Vec<u8>);

impl Tx<'_> {
    /// The mark of a namespace's rows, as they are now.
    pub fn rows_mark(&self, namespace: Namespace) -> Result<RowsMark, StoreError> {
        self.bring_namespace(namespace)?;
        let mut statement = self.statement(
            "SELECT key, list, substr(value, ?2) FROM mls_row WHERE namespace = ?1 ORDER BY key",
        )?;
        let mut rows = statement.query((namespace.id(), -(NONCE_LEN as i64)))?;
        let mut mark = Vec::with_capacity(1024);
        while let Some(row) = rows.next()? {
            let list: Option<i64> = row.get(1)?;
            let blob = |column| -> Result<Option<&[u8]>, StoreError> {
                Ok(row.get_ref(column)?.as_blob_or_null().map_err(rusqlite::Error::from)?)
            };
            mark.extend_from_slice(blob(0)?.unwrap_or_default());
            mark.extend_from_slice(&list.unwrap_or_default().to_be_bytes());
            let nonce = blob(2)?.unwrap_or_default();
            mark.push(nonce.len() as u8);
            mark.extend_from_slice(nonce);
        }
        Ok(RowsMark(mark))
    }

    /// How many bytes a namespace's rows have, about; what epochs share counts for each of them.
    pub fn rows_len(&self, namespace: Namespace) -> Result<u64, StoreError> {
        self.bring_namespace(namespace)?;
        let mut statement =
            self.statement("SELECT key, LENGTH(value), list FROM mls_row WHERE namespace = ?1")?;
        let mut rows = statement.query([namespace.id()])?;
        let mut sum = 0_u64;
        while let Some(row) = rows.next()? {
            let whole: Option<i64> = row.get(1)?;
            let list: Option<i64> = row.get(2)?;
            let len = match list {
                Some(_) => len_in_pieces(self, namespace, &row.get(0)?)?,
                None => whole.unwrap_or_default().unsigned_abs(),
            };
            sum = sum.saturating_add(len);
        }
        Ok(sum)
    }

    /// Whether a namespace has rows.
    pub fn has_rows(&self, namespace: Namespace) -> Result<bool, StoreError> {
        self.bring_namespace(namespace)?;
        let mut statement = self.statement("SELECT 1 FROM mls_row WHERE namespace = ?1")?;
        Ok(statement.exists([namespace.id()])?)
    }
}
