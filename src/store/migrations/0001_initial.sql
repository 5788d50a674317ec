-- Names of tables and columns, row counts, sizes, ids, due times and generations are in
-- clear; every other column is a keyed hash or a sealed value (see cipher.rs).

-- What is needed before there is a key: the sealed store cipher and how it is sealed.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
);

-- Records of all collections. The id gives the order of first insertion.
CREATE TABLE record (
    id         INTEGER PRIMARY KEY,
    collection TEXT NOT NULL,
    scope      BLOB NOT NULL,
    key        BLOB NOT NULL,
    value      BLOB NOT NULL
);
CREATE UNIQUE INDEX record_place ON record (collection, scope, key);

-- Entries of all queues. AUTOINCREMENT: an id is never used again.
CREATE TABLE queue_entry (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    queue  TEXT NOT NULL,
    scope  BLOB NOT NULL,
    due_ms INTEGER NOT NULL,
    value  BLOB NOT NULL
);
CREATE INDEX queue_entry_scope ON queue_entry (queue, scope);
CREATE INDEX queue_entry_due ON queue_entry (queue, due_ms);

-- One namespace an epoch state; 0 holds what belongs to no group.
CREATE TABLE namespace (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    generation INTEGER NOT NULL DEFAULT 0
);
INSERT INTO namespace (id) VALUES (0);

-- Rows written by OpenMLS. A NULL value is a tombstone: deleted here, whatever the parent has.
-- A rowid table: values reach megabytes, which WITHOUT ROWID would keep in the search tree.
CREATE TABLE mls_row (
    namespace INTEGER NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    key       BLOB NOT NULL,
    value     BLOB,
    PRIMARY KEY (namespace, key)
);
