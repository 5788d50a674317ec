-- Large values of OpenMLS's, such as a ratchet tree, in pieces that rows share
-- (src/store/openmls/chunks.rs). The triggers keep what is shared exactly as long as it is used,
-- whatever deletes a row: an overwrite, a cascade, a rollback.

-- A piece of a value. The name is a keyed hash of the content, so that the same piece is found again.
CREATE TABLE mls_chunk (
    id    INTEGER PRIMARY KEY,
    name  BLOB NOT NULL,
    value BLOB NOT NULL
);

-- Which chunks make up a list, in order.
CREATE TABLE mls_piece (
    list     INTEGER NOT NULL,
    position INTEGER NOT NULL,
    chunk    INTEGER NOT NULL REFERENCES mls_chunk (id),
    PRIMARY KEY (list, position)
) WITHOUT ROWID;
CREATE INDEX mls_piece_chunk ON mls_piece (chunk);

-- A row with a list has its value there; what it holds itself tells whether that is whole.
ALTER TABLE mls_row ADD COLUMN list INTEGER;
CREATE INDEX mls_row_list ON mls_row (list) WHERE list IS NOT NULL;
CREATE INDEX mls_row_key ON mls_row (key, list) WHERE list IS NOT NULL;

CREATE TRIGGER mls_row_deleted AFTER DELETE ON mls_row WHEN OLD.list IS NOT NULL
BEGIN
    DELETE FROM mls_piece WHERE list = OLD.list
        AND NOT EXISTS (SELECT 1 FROM mls_row WHERE list = OLD.list);
END;

CREATE TRIGGER mls_row_overwritten AFTER UPDATE ON mls_row WHEN OLD.list IS NOT NULL
BEGIN
    DELETE FROM mls_piece WHERE list = OLD.list
        AND NOT EXISTS (SELECT 1 FROM mls_row WHERE list = OLD.list);
END;

CREATE TRIGGER mls_piece_deleted AFTER DELETE ON mls_piece
BEGIN
    DELETE FROM mls_chunk WHERE id = OLD.chunk
        AND NOT EXISTS (SELECT 1 FROM mls_piece WHERE chunk = OLD.chunk);
END;
