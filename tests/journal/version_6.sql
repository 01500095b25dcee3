-- A journal of schema 6, with prompts in every state; never to be changed.
BEGIN TRANSACTION;
CREATE TABLE batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    created REAL NOT NULL,
    deadline REAL,
    file TEXT,
    remote TEXT,
    results TEXT,
    cancelled INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE counts (state TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "counts" VALUES('accepted',4);
INSERT INTO "counts" VALUES('answered',1);
INSERT INTO "counts" VALUES('cancelled',0);
INSERT INTO "counts" VALUES('delivered',1);
INSERT INTO "counts" VALUES('failed',2);
INSERT INTO "counts" VALUES('submitted',0);
CREATE TABLE days (day TEXT PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "days" VALUES('2027-01-15',7);
CREATE TABLE keys (                       -- idempotency keys; digests, keyed with the secret
    digest BLOB PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    seq INTEGER NOT NULL REFERENCES prompts ON DELETE CASCADE
) WITHOUT ROWID;
INSERT INTO "keys" VALUES(X'446B3D6DC108FD6E1FBA91FAB907D74BA9A7287C880363A075DC392F1613246F',X'656FE698881F9C71A1AB04FAB11159815376E30F934262C4127D848E7B46F26C',1);
INSERT INTO "keys" VALUES(X'4ADDE812235F71B6FAB1D1C2588AF4EAF7E9097B4F4F9A9398794D7914FE9E9D',X'75BC452FC76A87F667F1CE53AAAE93DC9DDAA1930CC079C26B6D7383F60555F9',5);
INSERT INTO "keys" VALUES(X'9EAB2FB17EE66D146F9DAE7FDA2E9796E7D18E1BA69CAAC9DF333D7E71205381',X'EAFD054D5ED2E2038B959C705245673EDC348545EC15069AA73491A1F853CC88',8);
CREATE TABLE long_texts (
    id INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    pad BLOB NOT NULL,
    text NOT NULL
);
INSERT INTO "long_texts" VALUES(8,10001,zeroblob(4096),char(0) || replace(hex(zeroblob(2500)), '0', 'é'));
INSERT INTO "long_texts" VALUES(21,9000,zeroblob(4096),CAST(replace(hex(zeroblob(4500)), '0', 'e') AS BLOB));
CREATE TABLE outbox (
    seq INTEGER NOT NULL,
    destination TEXT NOT NULL,
    due REAL NOT NULL,
    since REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    held REAL,
    error TEXT,
    owner INTEGER,
    token INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (seq, destination)
) WITHOUT ROWID;
INSERT INTO "outbox" VALUES(5,'target',1800014400.0,1800014400.0,0,NULL,NULL,NULL,0);
INSERT INTO "outbox" VALUES(6,'dead_letter',1800014400.0,1800014400.0,0,NULL,NULL,NULL,0);
CREATE TABLE owners (id INTEGER PRIMARY KEY AUTOINCREMENT, renewed REAL NOT NULL);
CREATE TABLE peers (
    name TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    held TEXT,
    since REAL,
    misses INTEGER NOT NULL,
    probe_at REAL,
    throttled_until REAL,
    failing INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE probes (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL);
INSERT INTO "probes" VALUES(1,2);
CREATE TABLE "prompts" (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (
        state IN ('accepted', 'submitted', 'answered', 'delivered', 'failed', 'cancelled')
    ),
    due REAL,
    day TEXT NOT NULL,
    accepted REAL NOT NULL,
    answered REAL,
    ended REAL,
    since REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    asks INTEGER NOT NULL DEFAULT 0,
    deliveries INTEGER NOT NULL DEFAULT 0,
    possibly_billed INTEGER NOT NULL DEFAULT 0,
    billed INTEGER NOT NULL DEFAULT 0,
    held REAL,
    error TEXT,
    owner INTEGER,
    token INTEGER NOT NULL DEFAULT 0,
    target TEXT NOT NULL DEFAULT 'target',
    request_id TEXT,
    not_before REAL,
    deadline REAL,
    ends REAL,
    needed_until REAL,
    kept_until REAL,
    submitted TEXT,
    polls INTEGER NOT NULL DEFAULT 0,
    missing_since REAL,
    missing INTEGER NOT NULL DEFAULT 0
, provider TEXT, tier TEXT NOT NULL DEFAULT 'standard', batch INTEGER);
INSERT INTO "prompts" VALUES(1,'accepted','accepted',1800014400.0,'2027-01-15',1800014400.0,NULL,NULL,1800014400.0,0,0,0,0,0,NULL,NULL,NULL,0,'target',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,'standard',NULL);
INSERT INTO "prompts" VALUES(2,'nul','accepted',1800014400.0,'2027-01-15',1800014400.0,NULL,NULL,1800014400.0,0,0,0,0,0,NULL,NULL,NULL,0,'target',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,'standard',NULL);
INSERT INTO "prompts" VALUES(3,'claimed','accepted',1800014400.0,'2027-01-15',1800014400.0,NULL,NULL,1800014400.0,1,1,0,0,1,NULL,NULL,NULL,0,'target',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,'standard',NULL);
INSERT INTO "prompts" VALUES(4,'postponed','accepted',1800014460.0,'2027-01-15',1800014400.0,NULL,NULL,1800014400.0,1,1,0,1,1,1800014400.0,'the model answered 503',NULL,0,'target',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,'standard',NULL);
INSERT INTO "prompts" VALUES(5,'answered','answered',NULL,'2027-01-15',1800014400.0,1800014400.0,NULL,1800014400.0,0,1,0,0,0,NULL,NULL,NULL,0,'target','req-1',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,'standard',NULL);
INSERT INTO "prompts" VALUES(6,'failed','failed',NULL,'2027-01-15',1800014400.0,NULL,1800014400.0,1800014400.0,0,1,0,0,0,NULL,'the model refused',NULL,0,'target',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,'standard',NULL);
INSERT INTO "prompts" VALUES(7,'undelivered','failed',NULL,'2027-01-15',1800014400.0,1800014400.0,1800014400.0,1800014400.0,0,1,1,0,0,NULL,'the target answered 400',NULL,0,'target','req-1',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,'standard',NULL);
INSERT INTO "prompts" VALUES(8,'delivered','delivered',NULL,'2027-01-15',1800014400.0,1800014400.0,1800014401.0,1800014400.0,0,1,1,0,0,NULL,NULL,NULL,0,'target',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,'standard',NULL);
CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL);
INSERT INTO "secret" VALUES(1,X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F');
CREATE TABLE terms (                      -- what a redrive has to know of the daemon's settings
    id INTEGER PRIMARY KEY CHECK (id = 1), everyday_limit INTEGER NOT NULL, timezone TEXT NOT NULL
);
INSERT INTO "terms" VALUES(1,100,'UTC');
CREATE TABLE texts (
    seq INTEGER PRIMARY KEY REFERENCES prompts ON DELETE CASCADE,
    prompt TEXT NOT NULL,
    source TEXT NOT NULL,
    type TEXT NOT NULL,
    event BLOB,
    letter BLOB,                          -- the dead letter, an event too
    traceparent TEXT,                     -- W3C Trace Context, if its request had one
    tracestate TEXT
, details TEXT, size INTEGER);
INSERT INTO "texts" VALUES(1,'what is vanus','a-source','a-type',NULL,NULL,'00-a-b-01','x=1',NULL,39);
INSERT INTO "texts" VALUES(2,'','a-source','a-type',NULL,NULL,NULL,NULL,NULL,14);
INSERT INTO "texts" VALUES(3,'under way','a-source','a-type',NULL,NULL,NULL,NULL,NULL,23);
INSERT INTO "texts" VALUES(4,'for later','a-source','a-type',NULL,NULL,NULL,NULL,NULL,23);
INSERT INTO "texts" VALUES(5,'answered one','a-source','a-type',X'',NULL,NULL,NULL,NULL,120);
INSERT INTO "texts" VALUES(6,'failed one','a-source','a-type',NULL,X'61206C6574746572',NULL,NULL,NULL,32);
INSERT INTO "texts" VALUES(7,'undelivered one','a-source','a-type',X'756E64656C697665726564206576656E74',NULL,NULL,NULL,NULL,140);
CREATE INDEX keys_of ON keys (seq);
CREATE INDEX unsized ON texts (seq) WHERE size IS NULL;
CREATE TRIGGER letter_gone AFTER UPDATE OF letter ON texts
WHEN OLD.letter = x'' AND NEW.letter IS NOT x'' BEGIN
    DELETE FROM long_texts WHERE id = OLD.seq * 4 + 2;
END;
CREATE INDEX to_deliver ON outbox (destination, due, seq) WHERE owner IS NULL;
CREATE INDEX to_poll ON prompts (owner, due, seq) WHERE state = 'submitted';
CREATE INDEX needed ON prompts (needed_until) WHERE needed_until IS NOT NULL;
CREATE INDEX kept ON prompts (kept_until) WHERE kept_until IS NOT NULL;
CREATE INDEX ends ON prompts (ended) WHERE ended IS NOT NULL;
CREATE INDEX failures ON prompts (seq) WHERE state = 'failed';
CREATE TRIGGER count_new AFTER INSERT ON prompts BEGIN
    UPDATE counts SET n = n + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER count_moved AFTER UPDATE OF state ON prompts BEGIN
    UPDATE counts SET n = n - 1 WHERE state = OLD.state;
    UPDATE counts SET n = n + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER count_gone AFTER DELETE ON prompts BEGIN
    UPDATE counts SET n = n - 1 WHERE state = OLD.state;
END;
CREATE TRIGGER texts_unneeded AFTER UPDATE OF state, needed_until, kept_until ON prompts
WHEN NEW.state = 'cancelled' OR
    NEW.state = 'delivered' AND NEW.needed_until IS NULL AND NEW.kept_until IS NULL BEGIN
    DELETE FROM texts WHERE seq = NEW.seq;
    DELETE FROM long_texts WHERE id BETWEEN NEW.seq * 4 AND NEW.seq * 4 + 3;
END;
CREATE TRIGGER outbox_gone AFTER DELETE ON prompts BEGIN
    DELETE FROM outbox WHERE seq = OLD.seq;
END;
CREATE TRIGGER texts_gone AFTER DELETE ON prompts BEGIN
    DELETE FROM long_texts WHERE id BETWEEN OLD.seq * 4 AND OLD.seq * 4 + 3;
END;
CREATE INDEX to_ask ON prompts (owner, tier, due, seq) WHERE state = 'accepted';
CREATE INDEX to_expire ON prompts (ends)
    WHERE ends IS NOT NULL AND (state = 'accepted' OR batch IS NOT NULL);
CREATE INDEX to_move_up ON prompts (tier, deadline) WHERE state = 'accepted' AND tier <> 'standard';
CREATE INDEX in_batch ON prompts (batch, seq) WHERE batch IS NOT NULL;
CREATE INDEX to_give_up ON prompts (owner, ends)
    WHERE ends IS NOT NULL AND state = 'submitted' AND batch IS NULL;

CREATE TABLE leftovers (
    id INTEGER PRIMARY KEY,
    submitted TEXT NOT NULL,
    provider TEXT,
    stop INTEGER NOT NULL,
    forget INTEGER NOT NULL,
    since REAL NOT NULL,
    due REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    owner INTEGER,
    token INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX to_tidy_up ON leftovers (due, id) WHERE owner IS NULL;
DELETE FROM "sqlite_sequence";
COMMIT;
PRAGMA application_id = 1667723379;
PRAGMA user_version = 6;
