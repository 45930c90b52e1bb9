-- Version 2: the narrow row holds what surrounds an item. See docs/data-model-sqlite.md.

-- What the indexes in memory are loaded from, apart from the wide rows.
-- session is session_number() of user_id, agent_id and session_id, as a signed number.
CREATE TABLE derived (
  item          INTEGER PRIMARY KEY,
  id            TEXT NOT NULL,
  revision      INTEGER NOT NULL,
  visible_until INTEGER NOT NULL,
  session       INTEGER,
  author        TEXT,
  importance    REAL,
  occurred_at   INTEGER NOT NULL,
  terms         BLOB NOT NULL,
  codes0        BLOB,
  codes1        BLOB
);
