//! How large a store is, and how many rows of what it has. Nothing is opened for that: names of
//! collections, counts and sizes are in clear.

use super::{StoreError, Tx};

/// How large a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// The database in bytes, without the log beside it.
    pub bytes: u64,
    /// How much of that is free, and used again later.
    pub free_bytes: u64,
    /// How many records each collection has, and how many entries each queue has. Sorted by name.
    pub records: Vec<(String, u64)>,
    /// How many epochs have their full state, and what belongs to no group.
    pub namespaces: u64,
}

impl Tx<'_> {
    /// Measures the store. It goes through indexes, and not through what is stored.
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let page_size = self.number("PRAGMA page_size")?;
        let mut records =
            self.counts("SELECT collection, count(*) FROM record GROUP BY collection")?;
        records.extend(self.counts("SELECT queue, count(*) FROM queue_entry GROUP BY queue")?);
        records.sort();
        Ok(Sizes {
            bytes: page_size.saturating_mul(self.number("PRAGMA page_count")?),
            free_bytes: page_size.saturating_mul(self.number("PRAGMA freelist_count")?),
            records,
            namespaces: self.number("SELECT count(*) FROM namespace")?,
        })
    }

    fn number(&self, sql: &str) -> Result<u64, StoreError> {
        let number: i64 = self.statement(sql)?.query_row([], |row| row.get(0))?;
        Ok(number.unsigned_abs())
    }

    fn counts(&self, sql: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let mut statement = self.statement(sql)?;
        let rows = statement.query_map([], |row| {
            let count: i64 = row.get(1)?;
            Ok((row.get(0)?, count.unsigned_abs()))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
