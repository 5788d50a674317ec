//! Large values in pieces that rows share.
//!
//! This file owns the tables `mls_chunk` and `mls_piece`. A value is [cut](super::cut) into pieces.
//! Each piece is stored once, as a sealed chunk under a keyed hash of its content, and a list names
//! the chunks in order. What an epoch has in common with the epochs kept beside it costs only the
//! list's entries: a chunk that exists already is not sealed or written again.
//!
//! A row whose value is in a list holds a [`PiecesHeader`] instead, sealed for its place: the
//! length and the keyed hash of the whole value. Whatever happens to lists, names and chunks in the
//! file, the header makes [`get`] return either the value that was put or [`StoreError::Damaged`].
//!
//! Without the store's key, and beyond the lengths that every sealed row shows, the file shows how
//! many pieces a value has, which pieces two kept epochs of one group have in common (so roughly
//! where and how much its tree has changed), and which pieces of one value are equal (so roughly
//! how much of the tree is blank). The file shows neither the content of a piece nor that a piece
//! of one group is also in another: names and cuts are keyed with the store's key and the row key,
//! which stands for one kind of row of one group, and each piece is sealed with a nonce of its own.
//!
//! Triggers do the deleting (migrations/0002): a list goes with the last row that has it, and a
//! chunk with the last list that names it. Both go in the transaction in which that happens, and
//! are overwritten like every deleted row.

use std::collections::HashMap;

use crate::store::{
    StoreError, Tx,
    cipher::{HASH_LEN, Hash, OpenedValue, Place, Plaintext},
};

use super::cut::Cuts;

/// A value up to this length stays in its row. A commit changes much of a short tree, and a whole
/// row takes fewer pages to write (docs/decisions/006).
pub(super) const WHOLE: usize = 24 * 1024;

/// What a row holds in place of a value that is in pieces.
pub(super) struct PiecesHeader {
    len: u64,
    hash: Hash,
}

impl PiecesHeader {
    fn of(tx: &Tx<'_>, value: &[u8]) -> Self {
        Self { len: value.len() as u64, hash: tx.cipher.hash("value in pieces", value) }
    }

    /// The length of the value.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes for the row.
    pub(super) fn to_bytes(&self) -> [u8; 8 + HASH_LEN] {
        let mut bytes = [0; 8 + HASH_LEN];
        bytes[..8].copy_from_slice(&self.len.to_be_bytes());
        bytes[8..].copy_from_slice(&self.hash);
        bytes
    }

    /// Reads the bytes of the row.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let parts = bytes.split_first_chunk().and_then(|(len, hash)| {
            Some(Self { len: u64::from_be_bytes(*len), hash: hash.try_into().ok()? })
        });
        parts.ok_or_else(|| {
            StoreError::Damaged("the header of a value in pieces does not decode".to_owned())
        })
    }
}

/// Keeps `value`, of a row of this key. Gives the list that names its pieces, and its header. The
/// list must be given to a row in the same transaction: only deleting a row deletes a list.
pub(super) fn put(
    tx: &Tx<'_>,
    key: &Hash,
    value: &[u8],
) -> Result<(i64, PiecesHeader), StoreError> {
    let mut known = known_chunks(tx, key)?;
    let domain = name_domain(key);
    let cuts = cuts_for(tx, key);
    let list: i64 = tx
        .statement("SELECT COALESCE(MAX(list), 0) + 1 FROM mls_piece")?
        .query_row([], |row| row.get(0))?;
    for (position, piece) in (0i64..).zip(cuts.cut(value)) {
        let name = tx.cipher.hash(&domain, piece);
        let chunk = match known.get(&name) {
            Some(chunk) => *chunk,
            None => {
                let mut plaintext = Plaintext::new(&place(tx, &name));
                plaintext.extend(piece);
                tx.execute(
                    "INSERT INTO mls_chunk (name, value) VALUES (?1, ?2)",
                    (name, tx.cipher.seal_plaintext(plaintext)?),
                )?;
                let chunk = tx.last_id();
                known.insert(name, chunk);
                chunk
            }
        };
        tx.execute(
            "INSERT INTO mls_piece (list, position, chunk) VALUES (?1, ?2, ?3)",
            (list, position, chunk),
        )?;
    }
    Ok((list, PiecesHeader::of(tx, value)))
}

/// Puts the value of a list together again.
pub(super) fn get(
    tx: &Tx<'_>,
    list: i64,
    header: &PiecesHeader,
) -> Result<OpenedValue, StoreError> {
    let other = || StoreError::Damaged("a value's pieces are not those it was made of".to_owned());
    let len = usize::try_from(header.len).map_err(|_| other())?;
    tx.bring_list(list)?;
    let mut value = OpenedValue::with_room_for(len);
    let mut statement = tx.statement(
        "SELECT mls_chunk.name, mls_chunk.value
         FROM mls_piece JOIN mls_chunk ON mls_chunk.id = mls_piece.chunk
         WHERE mls_piece.list = ?1 ORDER BY mls_piece.position",
    )?;
    let mut rows = statement.query([list])?;
    while let Some(row) = rows.next()? {
        let name: Hash = row.get(0)?;
        let sealed = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let piece = tx.cipher.open(&place(tx, &name), sealed)?;
        // The value must not outgrow its buffer: growing would leave a copy in freed memory.
        if value.payload().len() + piece.payload().len() > len {
            return Err(other());
        }
        value.append(&piece);
    }
    if PiecesHeader::of(tx, value.payload()).to_bytes() != header.to_bytes() {
        return Err(other());
    }
    Ok(value)
}

/// The chunks of all rows of this key, by name.
fn known_chunks(tx: &Tx<'_>, key: &Hash) -> Result<HashMap<Hash, i64>, StoreError> {
    let mut statement = tx.statement(
        "SELECT name, id FROM mls_chunk WHERE id IN
             (SELECT chunk FROM mls_piece WHERE list IN
                 (SELECT list FROM mls_row WHERE key = ?1 AND list IS NOT NULL))",
    )?;
    let known = statement.query_map([key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(known.collect::<Result<_, _>>()?)
}

/// Where the values of a row's key are cut: the same in all epochs, and secret without the store's
/// key.
fn cuts_for(tx: &Tx<'_>, key: &Hash) -> Cuts {
    let hash = tx.cipher.hash("cuts of values in pieces", key);
    Cuts::new(hash.first_chunk().map_or(0, |secret| u64::from_be_bytes(*secret)))
}

/// The domain in which the names of chunks are hashed, for a row's key.
fn name_domain(key: &Hash) -> String {
    use std::fmt::Write;
    let mut domain = "mls_chunk of ".to_owned();
    for byte in key {
        // Writing to a string does not fail.
        let _ = write!(domain, "{byte:02x}");
    }
    domain
}

fn place(tx: &Tx<'_>, name: &Hash) -> Place {
    tx.cipher.place("mls_chunk", &[name])
}
