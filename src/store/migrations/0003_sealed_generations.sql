-- Generations are sealed, so that nobody without the store's key can set one back. `generation` is what an
-- earlier version wrote. It is sealed when the store's device first opens it, and means nothing after that.
ALTER TABLE namespace ADD COLUMN counter BLOB;
