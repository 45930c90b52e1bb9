-- A store of schema version 2, frozen: what this version wrote must be read for ever.
-- user_version 2, application_id 0x4F4D656D.
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value NOT NULL
);
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
CREATE TABLE vector (
  key  INTEGER PRIMARY KEY,
  data BLOB NOT NULL
);
CREATE TABLE metadata (
  item  INTEGER NOT NULL,
  key   TEXT NOT NULL,
  ord   INTEGER NOT NULL,
  type  TEXT NOT NULL,
  value,
  PRIMARY KEY (item, key, ord)
) WITHOUT ROWID;
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
CREATE UNIQUE INDEX item_id ON item (tenant, id);
CREATE INDEX item_time ON item (tenant, occurred_at);
CREATE INDEX item_user ON item (tenant, user_id, occurred_at) WHERE user_id IS NOT NULL;
CREATE INDEX item_agent ON item (tenant, agent_id, occurred_at) WHERE agent_id IS NOT NULL;
CREATE INDEX item_session ON item (tenant, session_id, occurred_at) WHERE session_id IS NOT NULL;
CREATE INDEX item_hash ON item (tenant, content_hash);
CREATE INDEX item_expiry ON item (tenant, visible_until) WHERE expires_at IS NOT NULL;
CREATE INDEX metadata_value ON metadata (item >> 36, key, type, value);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);
INSERT INTO change VALUES (1, 11, 3, 0, '');
INSERT INTO change VALUES (2, 8, 0, 137438953480, 'tea');
INSERT INTO derived VALUES (68719476740, 'tea', 4, 253402207200000000, NULL, 'Ada', 0.5, 1740821400123456, X'0502036164610105677265656E01067072656665720103746561', X'0402813C313C103C851E15B98E540240407FE0', NULL);
INSERT INTO derived VALUES (68719476741, 'walk', 5, 32472144000000000, 1959439516918807353, 'Bob', NULL, 1740907800000000, X'040203626F620103646F67010477616C6B', NULL, NULL);
INSERT INTO derived VALUES (137438953480, 'tea', 8, 253402207200000000, NULL, NULL, NULL, 1741080600000000, X'030103656C730108736F6D65626F64690103746561', NULL, NULL);
INSERT INTO item VALUES (68719476740, 1, 'tea', 'ada', NULL, NULL, 'fact', NULL, 'Ada', 'Ada prefers green tea.', '{"deep":[1,{"a":null}]}', '{"n":9007199254740993,"ok":true,"tags":["hot","leaf"],"topic":"drinks","x":0.1}', 0.5, 1740821400123456, 1740821400123456, 1740821400123456, NULL, 253402207200000000, X'81324DD229166CEC7AFABF3A01C1E02CDD12FF52185AA498E7B2783FE52E7BE4', 4, X'B97BF1BF9E58445DB0A2EBB3C5BF927A');
INSERT INTO item VALUES (68719476741, 1, 'walk', NULL, 'pip', 's/1', 'message', 'assistant', 'Bob', 'Bob walks the dog.', NULL, NULL, NULL, 1740907800000000, 1740907800000000, 1740907800000000, 32472144000000000, 32472144000000000, X'3B66FF9F232C4648D899F7255990593550C6014F4E6F5CAD14546160DCC43785', 5, X'D2DB1E11C88D40CAB00B509B34770128');
INSERT INTO item VALUES (137438953480, 2, 'tea', 'eve', NULL, NULL, 'fact', NULL, NULL, 'Somebody else''s tea.', NULL, NULL, NULL, 1741080600000000, 1741080600000000, 1741080600000000, NULL, 253402207200000000, X'BA6C643E0AC9907AC16B8E694C82CAB7FEDA9DAE53C87301B26DC82A2F3CF1D5', 8, X'B634B23D6FB64178BEEC51EC281031C8');
INSERT INTO meta VALUES ('store_key', X'8A794105CE5CD3768F23BFEEFBE239714B3A9D54378E0332D9980451A56034E6');
INSERT INTO meta VALUES ('counter', 12);
INSERT INTO meta VALUES ('analyser', 'v1-en');
INSERT INTO meta VALUES ('tenants', 2);
INSERT INTO metadata VALUES (68719476740, 'n', 0, 'i', 9007199254740993);
INSERT INTO metadata VALUES (68719476740, 'ok', 0, 'b', 1);
INSERT INTO metadata VALUES (68719476740, 'tags', 0, 'l', 'hot');
INSERT INTO metadata VALUES (68719476740, 'tags', 1, 'l', 'leaf');
INSERT INTO metadata VALUES (68719476740, 'topic', 0, 's', 'drinks');
INSERT INTO metadata VALUES (68719476740, 'x', 0, 'f', 0.1);
INSERT INTO tenant VALUES (1, 'acme', 1, '{"model":"caller","revision":"1","dimensions":3,"metric":"cosine"}', 0, NULL, 2, 1, 10, NULL);
INSERT INTO tenant VALUES (2, 'other', 1, NULL, 0, NULL, 0, 7, 7, NULL);
INSERT INTO tombstone VALUES (X'B2BF61EC8C6E470B426D34A3CD5EA622B17CDABE1BFF96C7AD884D832940CC67');
INSERT INTO vector VALUES (137438953480, X'0000803F00000040000000BF');
