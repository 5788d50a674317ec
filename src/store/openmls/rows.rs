//! Reading, writing and deleting OpenMLS's rows, overlays included.

use serde::{Serialize, de::DeserializeOwned, de::IgnoredAny};

use super::{chunks, kind::Kind, storage::MlsStorage};
use crate::store::{
    Namespace, StoreError, Tx, cbor,
    cipher::{Hash, OpenedValue, Place, Plaintext},
};

/// What a namespace holds for a row.
enum Row {
    Value(OpenedValue),
    /// The value is in pieces: their list, and the header.
    Pieces(i64, chunks::PiecesHeader),
    /// The row was deleted here, and the parent's row does not count.
    Tombstone,
    Absent,
}

/// What is written into a row.
enum NewRow<'v> {
    /// A sealed value.
    Value(&'v [u8]),
    /// The list of a value in pieces, and the sealed header.
    Pieces(i64, &'v [u8]),
    Tombstone,
}

impl MlsStorage<'_> {
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        kind: Kind,
        key: &impl Serialize,
    ) -> Result<Option<T>, StoreError> {
        let value = self.read_row(kind, key)?.map(|opened| opened.unpack()).transpose();
        self.tx.remember(value)
    }

    pub(super) fn read_row(
        &self,
        kind: Kind,
        key: &impl Serialize,
    ) -> Result<Option<OpenedValue>, StoreError> {
        self.fetch(kind, &row_key(self.tx, kind, key)?)
    }

    pub(super) fn write<T: Serialize + ?Sized>(
        &self,
        kind: Kind,
        key: &impl Serialize,
        value: &T,
    ) -> Result<(), StoreError> {
        let (namespace, key) = (self.home(kind), row_key(self.tx, kind, key)?);
        let plaintext = Plaintext::packed(&place(self.tx, namespace, &key), value)?;
        // A step of a ratchet: what opened or sealed a message is replaced by what comes after it.
        if kind == Kind::MessageSecrets && has_row(self.tx, namespace, &key)? {
            self.tx.note_deleted_secrets();
        }
        put(self.tx, namespace, kind, &key, plaintext)
    }

    pub(super) fn delete(&self, kind: Kind, key: &impl Serialize) -> Result<(), StoreError> {
        let key = row_key(self.tx, kind, key)?;
        if self.parent.is_some() && !kind.is_global() {
            return store_row(self.tx, self.namespace, &key, NewRow::Tombstone);
        }
        self.tx.bring_namespace(self.home(kind))?;
        let deleted = self.tx.execute(
            "DELETE FROM mls_row WHERE namespace = ?1 AND key = ?2",
            (self.home(kind).id(), key),
        );
        if self.tx.remember(deleted)? > 0 {
            self.tx.note_deleted_secrets();
        }
        Ok(())
    }

    /// The items of a list, in the order in which they were added; empty when there is no list.
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

    /// Removes the first item equal to `item` from a list.
    pub(super) fn remove_item<T: Serialize>(
        &self,
        kind: Kind,
        key: &impl Serialize,
        item: &T,
    ) -> Result<(), StoreError> {
        let mut wanted = Vec::new();
        cbor::write(item, &mut wanted)
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
        let sealed = self.tx.cipher.seal_plaintext(new)?;
        store_row(self.tx, namespace, &key, NewRow::Value(&sealed))
    }

    fn fetch(&self, kind: Kind, key: &Hash) -> Result<Option<OpenedValue>, StoreError> {
        let own = self.tx.remember(load_row(self.tx, self.home(kind), key))?;
        let row = match (own, self.parent) {
            (Row::Absent, Some(parent)) if !kind.is_global() => {
                self.tx.remember(load_row(self.tx, parent, key))?
            }
            (row, _) => row,
        };
        Ok(match row {
            Row::Value(opened) => Some(opened),
            Row::Pieces(list, header) => {
                Some(self.tx.remember(chunks::get(self.tx, list, &header))?)
            }
            Row::Tombstone | Row::Absent => None,
        })
    }

    /// The namespace that rows of this kind are written to.
    fn home(&self, kind: Kind) -> Namespace {
        if kind.is_global() { Namespace::GLOBAL } else { self.namespace }
    }
}

/// Copies the rows of `parent` that `child` neither has nor has deleted, sealing each for its new
/// place. A value in pieces is not copied: the child gets the same list.
pub(super) fn copy_inherited(
    tx: &Tx<'_>,
    child: Namespace,
    parent: Namespace,
) -> Result<(), StoreError> {
    tx.bring_namespace(parent)?;
    tx.bring_namespace(child)?;
    let mut statement = tx.statement(
        "SELECT key, value FROM mls_row AS inherited
         WHERE namespace = ?2 AND value IS NOT NULL AND NOT EXISTS
             (SELECT 1 FROM mls_row WHERE namespace = ?1 AND key = inherited.key)",
    )?;
    // Keys first: a statement may see what is written to its table while it runs.
    let keys = statement
        .query_map((child.id(), parent.id()), |row| row.get::<_, Hash>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    for key in keys {
        match load_row(tx, parent, &key)? {
            Row::Value(opened) => {
                let mut copy = Plaintext::new(&place(tx, child, &key));
                copy.extend(opened.payload());
                let sealed = tx.cipher.seal_plaintext(copy)?;
                store_row(tx, child, &key, NewRow::Value(&sealed))?;
            }
            Row::Pieces(list, header) => store_header(tx, child, &key, list, &header)?,
            Row::Tombstone | Row::Absent => {}
        }
    }
    Ok(())
}

/// Writes a row whose value is encoded already.
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
    put(tx, namespace, kind, &key, copy)
}

/// Writes a value, in pieces if it is long and of a kind that epochs share.
fn put(
    tx: &Tx<'_>,
    namespace: Namespace,
    kind: Kind,
    key: &Hash,
    value: Plaintext,
) -> Result<(), StoreError> {
    if kind.is_shared() && value.payload().len() > chunks::WHOLE && !keeps_whole() {
        let (list, header) = tx.remember(chunks::put(tx, key, value.payload()))?;
        return store_header(tx, namespace, key, list, &header);
    }
    store_row(tx, namespace, key, NewRow::Value(&tx.cipher.seal_plaintext(value)?))
}

/// Whether every row is written whole. A bench does so to compare with.
fn keeps_whole() -> bool {
    #[cfg(feature = "test-hooks")]
    return crate::store::hooks::keeps_whole();
    #[cfg(not(feature = "test-hooks"))]
    false
}

fn load_row(tx: &Tx<'_>, namespace: Namespace, key: &Hash) -> Result<Row, StoreError> {
    tx.bring_namespace(namespace)?;
    let mut statement =
        tx.statement("SELECT value, list FROM mls_row WHERE namespace = ?1 AND key = ?2")?;
    let mut rows = statement.query((namespace.id(), key))?;
    let Some(row) = rows.next()? else {
        return Ok(Row::Absent);
    };
    let sealed = row.get_ref(0)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
    Ok(match (sealed, row.get(1)?) {
        (Some(sealed), None) => Row::Value(tx.cipher.open(&place(tx, namespace, key), sealed)?),
        (Some(sealed), Some(list)) => {
            let opened = tx.cipher.open(&header_place(tx, namespace, key), sealed)?;
            Row::Pieces(list, chunks::PiecesHeader::from_bytes(opened.payload())?)
        }
        (None, _) => Row::Tombstone,
    })
}

/// The length of a row's value that is in pieces; 0 where it is not.
pub(super) fn len_in_pieces(
    tx: &Tx<'_>,
    namespace: Namespace,
    key: &Hash,
) -> Result<u64, StoreError> {
    Ok(match load_row(tx, namespace, key)? {
        Row::Pieces(_, header) => header.len(),
        _ => 0,
    })
}

/// Whether a namespace itself has a value in a row.
fn has_row(tx: &Tx<'_>, namespace: Namespace, key: &Hash) -> Result<bool, StoreError> {
    tx.bring_namespace(namespace)?;
    let mut statement = tx.statement(
        "SELECT 1 FROM mls_row WHERE namespace = ?1 AND key = ?2 AND value IS NOT NULL",
    )?;
    Ok(statement.exists((namespace.id(), key))?)
}

fn store_row(
    tx: &Tx<'_>,
    namespace: Namespace,
    key: &Hash,
    new: NewRow<'_>,
) -> Result<(), StoreError> {
    tx.bring_namespace(namespace)?;
    let (sealed, list) = match new {
        NewRow::Value(sealed) => (Some(sealed), None),
        NewRow::Pieces(list, header) => (Some(header), Some(list)),
        NewRow::Tombstone => (None, None),
    };
    let stored = tx.execute(
        "INSERT INTO mls_row (namespace, key, value, list) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, list = excluded.list",
        (namespace.id(), key, sealed, list),
    );
    tx.remember(stored).map(drop)
}

fn store_header(
    tx: &Tx<'_>,
    namespace: Namespace,
    key: &Hash,
    list: i64,
    header: &chunks::PiecesHeader,
) -> Result<(), StoreError> {
    let mut plaintext = Plaintext::new(&header_place(tx, namespace, key));
    plaintext.extend(&header.to_bytes());
    let sealed = tx.cipher.seal_plaintext(plaintext)?;
    store_row(tx, namespace, key, NewRow::Pieces(list, &sealed))
}

fn row_key(tx: &Tx<'_>, kind: Kind, key: &impl Serialize) -> Result<Hash, StoreError> {
    let mut bytes = Vec::new();
    cbor::write(key, &mut bytes)
        .map_err(|error| StoreError::Damaged(format!("a key does not encode: {error}")))?;
    Ok(tx.cipher.hash(kind.name(), &bytes))
}

fn place(tx: &Tx<'_>, namespace: Namespace, key: &Hash) -> Place {
    tx.cipher.place("mls_row", &[&namespace.id().to_be_bytes(), key])
}

/// The place of a header. It differs from a value's place, so neither passes for the other.
fn header_place(tx: &Tx<'_>, namespace: Namespace, key: &Hash) -> Place {
    tx.cipher.place("mls_row in pieces", &[&namespace.id().to_be_bytes(), key])
}

/// Decodes one item of a CBOR sequence and moves past it.
fn next_item<T: DeserializeOwned>(rest: &mut &[u8]) -> Result<T, StoreError> {
    cbor::next(rest)
        .map_err(|_| StoreError::Damaged("an item of a list does not decode".to_owned()))
}

/// Writes the rows of a namespace as earlier versions wrote them: in CBOR, also in pieces. Gives
/// how many those were.
#[cfg(test)]
pub(crate) fn rewrite_in_cbor(tx: &Tx<'_>, namespace: Namespace) -> Result<usize, StoreError> {
    let keys = {
        let mut statement = tx.statement("SELECT key FROM mls_row WHERE namespace = ?1")?;
        let keys = statement.query_map([namespace.id()], |row| row.get::<_, Hash>(0))?;
        keys.collect::<Result<Vec<_>, _>>()?
    };
    let mut rewritten = 0;
    for key in keys {
        let (opened, in_pieces) = match load_row(tx, namespace, &key)? {
            Row::Value(opened) => (opened, false),
            Row::Pieces(list, header) => (chunks::get(tx, list, &header)?, true),
            Row::Tombstone | Row::Absent => continue,
        };
        let Ok(value) = opened.unpack::<ciborium::Value>() else { continue };
        let mut bytes = Vec::new();
        ciborium::into_writer(&value, &mut bytes)
            .map_err(|error| StoreError::Io(error.to_string()))?;
        if in_pieces {
            let (list, header) = chunks::put(tx, &key, &bytes)?;
            store_header(tx, namespace, &key, list, &header)?;
        } else {
            let mut plaintext = Plaintext::new(&place(tx, namespace, &key));
            plaintext.extend(&bytes);
            let sealed = tx.cipher.seal_plaintext(plaintext)?;
            store_row(tx, namespace, &key, NewRow::Value(&sealed))?;
        }
        rewritten += usize::from(opened.payload() != bytes);
    }
    Ok(rewritten)
}
