-- Makes of the tables of version 3 those of version 4; foreign keys are off.

CREATE TABLE prompts_4 (
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
);
INSERT INTO prompts_4 (
    seq, id, state, due, day, accepted, answered, ended, since, tries, asks, deliveries,
    possibly_billed, billed, held, error, owner, token
) SELECT
    seq, id, state, due, day, accepted, answered, ended, since, tries, asks, deliveries,
    possibly_billed, billed, held, error, owner, token
FROM prompts ORDER BY seq;
UPDATE prompts_4 SET request_id = (
    SELECT json_extract(answer, '$.request_id') FROM texts
    WHERE texts.seq = prompts_4.seq AND json_valid(answer)
) WHERE state IN ('answered', 'failed');
DROP TABLE prompts;
ALTER TABLE prompts_4 RENAME TO prompts;
CREATE INDEX to_ask ON prompts (owner, due, seq) WHERE state = 'accepted';
CREATE INDEX to_poll ON prompts (owner, due, seq) WHERE state = 'submitted';
CREATE INDEX to_expire ON prompts (ends) WHERE state = 'accepted' AND ends IS NOT NULL;
CREATE INDEX needed ON prompts (needed_until) WHERE needed_until IS NOT NULL;
CREATE INDEX kept ON prompts (kept_until) WHERE kept_until IS NOT NULL;
CREATE INDEX ends ON prompts (ended) WHERE ended IS NOT NULL;
CREATE INDEX failures ON prompts (seq) WHERE state = 'failed';


ALTER TABLE texts RENAME COLUMN answer TO details;
UPDATE texts SET details = NULL WHERE details IS NOT NULL;
DELETE FROM long_texts WHERE id % 4 = 3;
INSERT INTO counts VALUES ('cancelled', 0), ('submitted', 0);

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
