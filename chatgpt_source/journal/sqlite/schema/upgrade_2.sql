-- Makes of the tables of version 2 those of version 3; foreign keys are off.

ALTER TABLE texts ADD COLUMN answer TEXT;
ALTER TABLE texts ADD COLUMN size INTEGER;
CREATE INDEX unsized ON texts (seq) WHERE size IS NULL;
UPDATE texts SET answer = (SELECT answer FROM prompts WHERE prompts.seq = texts.seq)
WHERE seq IN (SELECT seq FROM prompts WHERE answer IS NOT NULL);

CREATE TABLE long_texts (
    id INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    pad BLOB NOT NULL,
    text NOT NULL
);
CREATE TRIGGER letter_gone AFTER UPDATE OF letter ON texts
WHEN OLD.letter = x'' AND NEW.letter IS NOT x'' BEGIN
    DELETE FROM long_texts WHERE id = OLD.seq * 4 + 2;
END;

CREATE TABLE prompts_3 (                  -- anew, so that no page keeps what `answer` held
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('accepted', 'answered', 'delivered', 'failed')),
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
    token INTEGER NOT NULL DEFAULT 0
);
INSERT INTO prompts_3 SELECT              -- what is under way has a `due` of 1e18
    seq, id, state,
    CASE state WHEN 'accepted' THEN CASE due WHEN 1e18 THEN since ELSE due END END,
    day, accepted, answered, ended, since,
    CASE state WHEN 'accepted' THEN tries ELSE 0 END, asks,
    CASE state WHEN 'answered' THEN max(0, deliveries - tries) ELSE deliveries END,
    maybe_billed, maybe_billed > 0 OR state = 'accepted' AND due = 1e18,
    CASE state WHEN 'accepted' THEN held END, CASE state WHEN 'answered' THEN NULL ELSE error END,
    NULL, 0
FROM prompts ORDER BY seq;

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
INSERT INTO outbox (seq, destination, due, since, attempts, error)
SELECT seq, 'target', CASE due WHEN 1e18 THEN since ELSE due END, since, tries, error
FROM prompts WHERE state = 'answered' ORDER BY seq;
INSERT INTO outbox (seq, destination, due, since, attempts)
SELECT seq, 'dead_letter', CASE letter_due WHEN 1e18 THEN ended ELSE letter_due END, ended, letters
FROM prompts WHERE state = 'failed' AND letter_due IS NOT NULL ORDER BY seq;
CREATE INDEX to_deliver ON outbox (destination, due, seq) WHERE owner IS NULL;

DROP TABLE prompts;
ALTER TABLE prompts_3 RENAME TO prompts;
CREATE INDEX to_ask ON prompts (owner, due, seq) WHERE state = 'accepted';
CREATE INDEX ends ON prompts (ended) WHERE ended IS NOT NULL;
CREATE INDEX failures ON prompts (seq) WHERE state = 'failed';

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
CREATE TRIGGER texts_delivered AFTER UPDATE OF state ON prompts WHEN NEW.state = 'delivered' BEGIN
    DELETE FROM texts WHERE seq = NEW.seq;
    DELETE FROM long_texts WHERE id BETWEEN NEW.seq * 4 AND NEW.seq * 4 + 3;
END;
CREATE TRIGGER outbox_gone AFTER DELETE ON prompts BEGIN
    DELETE FROM outbox WHERE seq = OLD.seq;
END;
CREATE TRIGGER texts_gone AFTER DELETE ON prompts BEGIN
    DELETE FROM long_texts WHERE id BETWEEN OLD.seq * 4 AND OLD.seq * 4 + 3;
END;
