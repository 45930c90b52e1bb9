-- Version 1. Times are microseconds since 1970, UTC. See docs/data-model-sqlite.md.

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value NOT NULL
);

-- Numbers of tenants are never used twice. A tenant's log begins at born.
CREATE TABLE tenant (
  tenant        INTEGER PRIMARY KEY,
  name          TEXT NOT NULL UNIQUE,
  listed        INTEGER NOT NULL,
  active_space  TEXT,
  active_slot   INTEGER NOT NULL DEFAULT 0,
  next_space    TEXT,
  space_version INTEGER NOT NULL DEFAULT 0,
  born          INTEGER NOT NULL,
  log_floor     INTEGER NOT NULL,
  fence         INTEGER
);

-- item = tenant * 2^36 + n, n from the counter. Rowid tables: without one, rows of this size are slower and larger.
CREATE TABLE item (
  item          INTEGER PRIMARY KEY,
  tenant        INTEGER NOT NULL,
  id            TEXT NOT NULL,
  user_id       TEXT,
  agent_id      TEXT,
  session_id    TEXT,
  kind          TEXT NOT NULL,
  role          TEXT,
  author        TEXT,
  content       TEXT NOT NULL,
  payload       TEXT,
  metadata      TEXT,
  importance    REAL,
  occurred_at   INTEGER NOT NULL,
  created_at    INTEGER NOT NULL,
  updated_at    INTEGER NOT NULL,
  expires_at    INTEGER,
  visible_until INTEGER NOT NULL,
  content_hash  BLOB NOT NULL,
  revision      INTEGER NOT NULL,
  commit_id     BLOB NOT NULL
);
CREATE UNIQUE INDEX item_id ON item (tenant, id);
CREATE INDEX item_time ON item (tenant, occurred_at);
CREATE INDEX item_user ON item (tenant, user_id, occurred_at) WHERE user_id IS NOT NULL;
CREATE INDEX item_agent ON item (tenant, agent_id, occurred_at) WHERE agent_id IS NOT NULL;
CREATE INDEX item_session ON item (tenant, session_id, occurred_at) WHERE session_id IS NOT NULL;
CREATE INDEX item_hash ON item (tenant, content_hash);
CREATE INDEX item_expiry ON item (tenant, visible_until) WHERE expires_at IS NOT NULL;

-- What the indexes in memory are loaded from, apart from the wide rows.
CREATE TABLE derived (
  item          INTEGER PRIMARY KEY,
  id            TEXT NOT NULL,
  revision      INTEGER NOT NULL,
  visible_until INTEGER NOT NULL,
  terms         BLOB NOT NULL,
  codes0        BLOB,
  codes1        BLOB
);

-- key = item * 2 + slot; f32, little endian.
CREATE TABLE vector (
  key  INTEGER PRIMARY KEY,
  data BLOB NOT NULL
);

-- The filterable values of items: type b, i, f, s, or l (one row a string, one NULL for none).
CREATE TABLE metadata (
  item  INTEGER NOT NULL,
  key   TEXT NOT NULL,
  ord   INTEGER NOT NULL,
  type  TEXT NOT NULL,
  value,
  PRIMARY KEY (item, key, ord)
) WITHOUT ROWID;
CREATE INDEX metadata_value ON metadata (item >> 36, key, type, value);

CREATE TABLE change (
  tenant INTEGER NOT NULL,
  seq    INTEGER NOT NULL,
  op     INTEGER NOT NULL,
  item   INTEGER NOT NULL,
  id     TEXT NOT NULL,
  PRIMARY KEY (tenant, seq)
) WITHOUT ROWID;

CREATE TABLE consumer (
  tenant   INTEGER NOT NULL,
  name     TEXT NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (tenant, name)
) WITHOUT ROWID;

CREATE TABLE idempotency (
  tenant     INTEGER NOT NULL,
  key        TEXT NOT NULL,
  digest     BLOB NOT NULL,
  result     TEXT,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE lease (
  tenant     INTEGER NOT NULL,
  name       TEXT NOT NULL,
  token      INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (tenant, name)
) WITHOUT ROWID;

CREATE TABLE tombstone (
  mac BLOB PRIMARY KEY
) WITHOUT ROWID;
