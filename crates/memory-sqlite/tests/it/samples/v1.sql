-- A store of schema version 1, frozen: what this version wrote must be read for ever.
-- user_version 1, application_id 0x4F4D656D.
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
CREATE UNIQUE INDEX item_id ON item (tenant, id);
CREATE INDEX item_time ON item (tenant, occurred_at);
CREATE INDEX item_user ON item (tenant, user_id, occurred_at) WHERE user_id IS NOT NULL;
CREATE INDEX item_agent ON item (tenant, agent_id, occurred_at) WHERE agent_id IS NOT NULL;
CREATE INDEX item_session ON item (tenant, session_id, occurred_at) WHERE session_id IS NOT NULL;
CREATE INDEX item_hash ON item (tenant, content_hash);
CREATE INDEX item_expiry ON item (tenant, visible_until) WHERE expires_at IS NOT NULL;
CREATE TABLE derived (
  item          INTEGER PRIMARY KEY,
  id            TEXT NOT NULL,
  revision      INTEGER NOT NULL,
  visible_until INTEGER NOT NULL,
  terms         BLOB NOT NULL,
  codes0        BLOB,
  codes1        BLOB
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
INSERT INTO change VALUES (1, 11, 3, 0, '');
INSERT INTO change VALUES (2, 7, 0, 137438953479, 'tea');
INSERT INTO derived VALUES (68719476740, 'tea', 4, 253402207200000000, X'0502036164610105677265656E01067072656665720103746561', X'0402813C313C103C851E15B98E540240407FE0', NULL);
INSERT INTO derived VALUES (68719476741, 'walk', 5, 32472144000000000, X'040203626F620103646F67010477616C6B', NULL, NULL);
INSERT INTO derived VALUES (137438953479, 'tea', 7, 253402207200000000, X'030103656C730108736F6D65626F64690103746561', NULL, NULL);
INSERT INTO item VALUES (68719476740, 1, 'tea', 'ada', NULL, NULL, 'fact', NULL, 'Ada', 'Ada prefers green tea.', '{"deep":[1,{"a":null}]}', '{"n":9007199254740993,"ok":true,"tags":["hot","leaf"],"topic":"drinks","x":0.1}', 0.5, 1740821400123456, 1795366550022317, 1795366550022317, NULL, 253402207200000000, X'81324DD229166CEC7AFABF3A01C1E02CDD12FF52185AA498E7B2783FE52E7BE4', 4, X'DE3087472420441CABFA4B8D0573CBE0');
INSERT INTO item VALUES (68719476741, 1, 'walk', NULL, 'pip', 's/1', 'message', 'assistant', 'Bob', 'Bob walks the dog.', NULL, NULL, NULL, 1740907800000000, 1795366550029017, 1795366550029017, 32472144000000000, 32472144000000000, X'3B66FF9F232C4648D899F7255990593550C6014F4E6F5CAD14546160DCC43785', 5, X'CB001E1410994F4A8A4B3AB2ACE03D94');
INSERT INTO item VALUES (137438953479, 2, 'tea', 'eve', NULL, NULL, 'fact', NULL, NULL, 'Somebody else''s tea.', NULL, NULL, NULL, 1795366550036363, 1795366550036363, 1795366550036363, NULL, 253402207200000000, X'BA6C643E0AC9907AC16B8E694C82CAB7FEDA9DAE53C87301B26DC82A2F3CF1D5', 7, X'4376219C63754CA3BBF88C9A7CCFC0AE');
INSERT INTO meta VALUES ('store_key', X'ECB469103C001E20D63C114E0B5799817A80F396C3EF660279589C17B7DD9A01');
INSERT INTO meta VALUES ('counter', 11);
INSERT INTO meta VALUES ('analyser', 'v1-en');
INSERT INTO meta VALUES ('tenants', 2);
INSERT INTO metadata VALUES (68719476740, 'n', 0, 'i', 9007199254740993);
INSERT INTO metadata VALUES (68719476740, 'ok', 0, 'b', 1);
INSERT INTO metadata VALUES (68719476740, 'tags', 0, 'l', 'hot');
INSERT INTO metadata VALUES (68719476740, 'tags', 1, 'l', 'leaf');
INSERT INTO metadata VALUES (68719476740, 'topic', 0, 's', 'drinks');
INSERT INTO metadata VALUES (68719476740, 'x', 0, 'f', 0.1);
INSERT INTO tenant VALUES (1, 'acme', 1, '{"model":"caller","revision":"1","dimensions":3,"metric":"cosine"}', 0, NULL, 2, 1, 10, NULL);
INSERT INTO tenant VALUES (2, 'other', 1, NULL, 0, NULL, 0, 6, 6, NULL);
INSERT INTO tombstone VALUES (X'AEF27E83510E557EFA766BF5C5541BFFD83DDFE231F77D4E467C328128A13946');
INSERT INTO vector VALUES (137438953480, X'0000803F00000040000000BF');
