//! Reading, writing and deleting OpenMLS's rows, overlays included.

use std::io::Read;

use serde::{Serialize, de::DeserializeOwned, de::IgnoredAny};

use super::{Kind, MlsStorage};
use crate::store::{
    Namespace, StoreError, Tx,
    cipher::{Hash, Opened, Place, Plaintext},
};

/// What a namespace knows of a row.
enum Row {
    Value(Opened),
    /// Deleted here; what the parent has does not count.
    Tombstone,
    Absent,
}

impl MlsStorage<'_> {
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        kind: Kind,
        key: &impl Serialize,
    ) -> Result<Option<T>, StoreError> {
        let value = self.read_row(kind, key)?.map(|opened| opened.decode()).transpose();
        self.tx.remember(value)
    }

    pub(super) fn read_row(
        &self,
        kind: Kind,
        key: &impl Serialize,
    ) -> Result<Option<Opened>, StoreError> {
        self.fetch(kind, &row_key(self.tx, kind, key)?)
    }

    pub(super) fn write<T: Serialize + ?Sized>(
        &self,
        kind: Kind,
        key: &impl Serialize,
        value: &T,
    ) -> Result<(), StoreError> {
        let (namespace, key) = (self.home(kind), row_key(self.tx, kind, key)?);
        let sealed = self.tx.cipher.seal(&place(self.tx, namespace, &key), value)?;
        store(self.tx, namespace, &key, Some(&sealed))
    }

    pub(super) fn delete(&self, kind: Kind, key: &impl Serialize) -> Result<(), StoreError> {
        let key = row_key(self.tx, kind, key)?;
        if self.parent.is_some() && !kind.is_global() {
            return store(self.tx, self.namespace, &key, None);
        }
        let deleted = self.tx.execute(
            "DELETE FROM mls_row WHERE namespace = ?1 AND key = ?2",
            (self.home(kind).id(), key),
        );
        self.tx.remember(deleted).map(drop)
    }

    /// The items of a list, in the order in which they were added; none when there is no list.
    pub(super) fn read_list<T: DeserializeOwned>(
        &self,
        kind: Kind,
        key: &impl Serialize,
    ) -> Result<Vec<T>, StoreError> {
        let Some(opened) = self.read_row(kind, key)? else {
            return Ok(Vec::new());
        };
        let mut rest = opened.payload();
        let mut items = Vec::new();
        while !rest.is_empty() {
            items.push(self.tx.remember(next_item(&mut rest))?);
        }
        Ok(items)
    }

    /// Adds an item at the end of a list.
    pub(super) fn append<T: Serialize>(
        &self,
        kind: Kind,
        key: &impl Serialize,
        item: &T,
    ) -> Result<(), StoreError> {
        self.rewrite_list(kind, key, |old, new| {
            new.extend(old);
            new.encode(item)
        })
    }

    /// Takes the first item equal to `item` out of a list.
    pub(super) fn remove_item<T: Serialize>(
        &self,
        kind: Kind,
        key: &impl Serialize,
        item: &T,
    ) -> Result<(), StoreError> {
        let mut wanted = Vec::new();
        ciborium::into_writer(item, &mut wanted)
            .map_err(|error| StoreError::Damaged(format!("a key does not encode: {error}")))?;
        self.rewrite_list(kind, key, |old, new| {
            let mut rest = old;
            let mut found = false;
            while !rest.is_empty() {
                let start = rest;
                next_item::<IgnoredAny>(&mut rest)?;
                let item = start.get(..start.len() - rest.len()).unwrap_or_default();
                if !found && item == wanted {
                    found = true;
                } else {
                    new.extend(item);
                }
            }
            Ok(())
        })
    }

    fn rewrite_list(
        &self,
        kind: Kind,
        key: &impl Serialize,
        rewrite: impl FnOnce(&[u8], &mut Plaintext) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (namespace, key) = (self.home(kind), row_key(self.tx, kind, key)?);
        let old = self.fetch(kind, &key)?;
        let mut new = Plaintext::new(&place(self.tx, namespace, &key));
        rewrite(old.as_ref().map_or(&[], |opened| opened.payload()), &mut new)?;
        store(self.tx, namespace, &key, Some(&self.tx.cipher.seal_plaintext(new)?))
    }

    fn fetch(&self, kind: Kind, key: &Hash) -> Result<Option<Opened>, StoreError> {
        let row = match (self.tx.remember(load(self.tx, self.home(kind), key))?, self.parent) {
            (Row::Absent, Some(parent)) if !kind.is_global() => {
                self.tx.remember(load(self.tx, parent, key))?
            }
            (row, _) => row,
        };
        Ok(match row {
            Row::Value(opened) => Some(opened),
            Row::Tombstone | Row::Absent => None,
        })
    }

    /// The namespace that rows of this kind are written to.
    fn home(&self, kind: Kind) -> Namespace {
        if kind.is_global() { Namespace::GLOBAL } else { self.namespace }
    }
}

/// Copies the rows of `parent` of which `child` knows nothing, sealing each for its new place.
pub(in crate::store) fn copy_inherited(
    tx: &Tx<'_>,
    child: Namespace,
    parent: Namespace,
) -> Result<(), StoreError> {
    let mut statement = tx.statement(
        "SELECT key, value FROM mls_row AS inherited
         WHERE namespace = ?2 AND value IS NOT NULL AND NOT EXISTS
             (SELECT 1 FROM mls_row WHERE namespace = ?1 AND key = inherited.key)",
    )?;
    // Keys first: writing to a table while reading it may show what was just written.
    let keys = statement
        .query_map((child.id(), parent.id()), |row| row.get::<_, Hash>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    for key in keys {
        if let Row::Value(opened) = load(tx, parent, &key)? {
            let mut copy = Plaintext::new(&place(tx, child, &key));
            copy.extend(opened.payload());
            store(tx, child, &key, Some(&tx.cipher.seal_plaintext(copy)?))?;
        }
    }
    Ok(())
}

/// Writes a row whose CBOR is there already.
pub(super) fn put_payload(
    tx: &Tx<'_>,
    namespace: Namespace,
    kind: Kind,
    key: &impl Serialize,
    payload: &[u8],
) -> Result<(), StoreError> {
    let key = row_key(tx, kind, key)?;
    let mut copy = Plaintext::new(&place(tx, namespace, &key));
    copy.extend(payload);
    store(tx, namespace, &key, Some(&tx.cipher.seal_plaintext(copy)?))
}

fn load(tx: &Tx<'_>, namespace: Namespace, key: &Hash) -> Result<Row, StoreError> {
    let mut statement =
        tx.statement("SELECT value FROM mls_row WHERE namespace = ?1 AND key = ?2")?;
    let mut rows = statement.query((namespace.id(), key))?;
    let Some(row) = rows.next()? else {
        return Ok(Row::Absent);
    };
    let sealed = row.get_ref(0)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
    Ok(match sealed {
        Some(sealed) => Row::Value(tx.cipher.open(&place(tx, namespace, key), sealed)?),
        None => Row::Tombstone,
    })
}

fn store(
    tx: &Tx<'_>,
    namespace: Namespace,
    key: &Hash,
    sealed: Option<&[u8]>,
) -> Result<(), StoreError> {
    let stored = tx.execute(
        "INSERT INTO mls_row (namespace, key, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value",
        (namespace.id(), key, sealed),
    );
    tx.remember(stored).map(drop)
}

fn row_key(tx: &Tx<'_>, kind: Kind, key: &impl Serialize) -> Result<Hash, StoreError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(key, &mut bytes)
        .map_err(|error| StoreError::Damaged(format!("a key does not encode: {error}")))?;
    Ok(tx.cipher.hash(kind.name(), &bytes))
}

fn place(tx: &Tx<'_>, namespace: Namespace, key: &Hash) -> Place {
    tx.cipher.place("mls_row", &[&namespace.id().to_be_bytes(), key])
}

/// Decodes one item of a CBOR sequence and moves past it.
fn next_item<T: DeserializeOwned>(rest: &mut &[u8]) -> Result<T, StoreError> {
    ciborium::from_reader(Read::by_ref(rest))
        .map_err(|_| StoreError::Damaged("an item of a list does not decode".to_owned()))
}
