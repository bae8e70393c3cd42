-- Partitions, effects and the record of decisions.
CREATE TABLE partitions (
  pipeline   TEXT NOT NULL,
  date       TEXT NOT NULL,
  version    INTEGER NOT NULL,
  wake_at    TEXT,
  document   TEXT NOT NULL,
  checksum   TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  PRIMARY KEY (pipeline, date)
) WITHOUT ROWID;
CREATE INDEX partitions_wake ON partitions (wake_at) WHERE wake_at IS NOT NULL;

CREATE TABLE outbox (
  seq           INTEGER PRIMARY KEY AUTOINCREMENT,
  id            TEXT NOT NULL UNIQUE,
  pipeline      TEXT NOT NULL,
  date          TEXT NOT NULL,
  kind          TEXT NOT NULL,
  effect        TEXT NOT NULL,
  checksum      TEXT NOT NULL,
  decided_at    TEXT NOT NULL,
  tries         INTEGER NOT NULL DEFAULT 0,
  not_before    TEXT NOT NULL,
  sent_at       TEXT,
  parked_reason TEXT,
  error         TEXT
);
CREATE INDEX outbox_waiting ON outbox (date DESC, seq) WHERE sent_at IS NULL AND parked_reason IS NULL;
CREATE INDEX outbox_not_before ON outbox (not_before) WHERE sent_at IS NULL AND parked_reason IS NULL;
CREATE INDEX outbox_parked ON outbox (seq) WHERE parked_reason IS NOT NULL;
CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;

-- AUTOINCREMENT: a number is never given twice, so a reader's cursor stays right after old entries are deleted.
CREATE TABLE journal (
  seq      INTEGER PRIMARY KEY AUTOINCREMENT,
  pipeline TEXT NOT NULL,
  date     TEXT NOT NULL,
  version  INTEGER NOT NULL,
  at       TEXT NOT NULL,
  entry    TEXT NOT NULL,
  checksum TEXT NOT NULL
);
CREATE INDEX journal_partition ON journal (pipeline, date, seq);

CREATE TABLE parked (
  fingerprint TEXT PRIMARY KEY,
  at          TEXT NOT NULL,
  last_at     TEXT NOT NULL,
  count       INTEGER NOT NULL,
  input       TEXT NOT NULL
);
CREATE INDEX parked_last ON parked (last_at);

CREATE TABLE cursors (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE processing_locks (
  name     TEXT PRIMARY KEY,
  pipeline TEXT NOT NULL,
  date     TEXT NOT NULL,
  node     TEXT NOT NULL,
  run      TEXT NOT NULL,
  taken_at TEXT NOT NULL
) WITHOUT ROWID;

-- The bus.
CREATE TABLE messages (
  id           TEXT PRIMARY KEY,
  topic        TEXT NOT NULL,
  data         BLOB NOT NULL,
  attributes   TEXT NOT NULL,
  published_at TEXT NOT NULL
);
CREATE INDEX messages_published ON messages (published_at);

-- not_before is the end of the lease while somebody holds one, and of the pause after a refusal otherwise.
CREATE TABLE deliveries (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  message      TEXT NOT NULL REFERENCES messages (id),
  subscription TEXT NOT NULL,
  attempts     INTEGER NOT NULL DEFAULT 0,
  not_before   TEXT NOT NULL,
  settled_at   TEXT,
  outcome      TEXT CHECK (outcome IN ('acknowledged', 'dead', 'expired')),
  error        TEXT,
  UNIQUE (message, subscription)
);
CREATE INDEX deliveries_waiting ON deliveries (subscription, not_before) WHERE settled_at IS NULL;
CREATE INDEX deliveries_settled ON deliveries (settled_at) WHERE settled_at IS NOT NULL;

CREATE TABLE alerts (
  key         TEXT PRIMARY KEY,
  severity    TEXT NOT NULL,
  text        TEXT NOT NULL,
  raised_at   TEXT NOT NULL,
  changed_at  TEXT NOT NULL,
  resolved_at TEXT,
  times       INTEGER NOT NULL,
  about       TEXT
) WITHOUT ROWID;

CREATE TABLE alert_log (
  seq      INTEGER PRIMARY KEY AUTOINCREMENT,
  key      TEXT NOT NULL,
  turn     TEXT NOT NULL,
  severity TEXT NOT NULL,
  text     TEXT NOT NULL,
  at       TEXT NOT NULL,
  UNIQUE (key, turn, severity, at)
);

-- What a warehouse would answer; unit '' is the whole.
CREATE TABLE warehouse_coverage (
  pipeline TEXT NOT NULL,
  node     TEXT NOT NULL,
  date     TEXT NOT NULL,
  as_of    TEXT NOT NULL,
  unit     TEXT NOT NULL,
  observed INTEGER NOT NULL,
  expected INTEGER NOT NULL,
  PRIMARY KEY (pipeline, node, date, as_of, unit)
) WITHOUT ROWID;
