"""The SQLite journal's tables.

`prompts` holds what is known of each prompt, `texts` what somebody wrote: the latter is deleted on
delivery, so that no index and no small update ever copies it about. A long text is in `long_texts`,
in pages that hold nothing else (see `texts`). Triggers keep `counts` exact, and take long texts
along with their prompt, whoever writes.
"""

VERSION = 3
APPLICATION_ID = 0x63677073
"""Says in the file's header whose file it is ("cgps")."""

UNDER_WAY = 1e18
"""The `due` of a prompt that is claimed: beyond every instant."""
AT_ONCE = 0.0
"""The `due` of a prompt that was redriven: before every instant of any daemon's clock."""
NOT_YET = UNDER_WAY
"""The `since` of a prompt that was redriven: its time runs from the next claim on."""

CREATE = """
CREATE TABLE prompts (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('accepted', 'answered', 'delivered', 'failed')),
    due REAL,                             -- steady: when it may be tried; NULL: nothing to do
    day TEXT NOT NULL,                    -- whose unit it took
    accepted REAL NOT NULL,
    answered REAL,                        -- these three are dates, by the wall clock
    ended REAL,                           -- delivered or failed
    since REAL NOT NULL,                  -- steady: from when `give_up_after` runs
    tries INTEGER NOT NULL DEFAULT 0,     -- attempts of the call it waits for, since then
    asks INTEGER NOT NULL DEFAULT 0,      -- attempts ever
    deliveries INTEGER NOT NULL DEFAULT 0,
    maybe_billed INTEGER NOT NULL DEFAULT 0,
    held REAL,                            -- when the call it waits for first met a hold
    error TEXT,
    letter_due REAL,                      -- as `due`, for the dead letter
    letters INTEGER NOT NULL DEFAULT 0,
    billed INTEGER NOT NULL DEFAULT 0     -- whether a call may have been, since it took its unit
);
CREATE INDEX work ON prompts (state, due, seq) WHERE due IS NOT NULL;
CREATE INDEX letters ON prompts (letter_due) WHERE letter_due IS NOT NULL;
CREATE INDEX ends ON prompts (ended) WHERE ended IS NOT NULL;
CREATE INDEX failures ON prompts (seq) WHERE state = 'failed';

CREATE TABLE texts (
    seq INTEGER PRIMARY KEY REFERENCES prompts ON DELETE CASCADE,
    prompt TEXT NOT NULL,
    source TEXT NOT NULL,
    type TEXT NOT NULL,
    event BLOB,
    letter BLOB,                          -- the dead letter, an event too
    traceparent TEXT,                     -- W3C Trace Context, if its request had one
    tracestate TEXT,
    answer TEXT,                          -- JSON: what the provider says of the call
    size INTEGER                          -- bytes in this row, at most; NULL: not known yet
);
CREATE INDEX unsized ON texts (seq) WHERE size IS NULL;

CREATE TABLE long_texts (
    id INTEGER PRIMARY KEY,               -- seq * 4 + the part
    size INTEGER NOT NULL,                -- bytes of the text
    pad BLOB NOT NULL,                    -- fills what SQLite keeps of the row beside other rows
    text NOT NULL                         -- TEXT or BLOB, as in `texts`
);
CREATE TRIGGER letter_gone AFTER UPDATE OF letter ON texts
WHEN OLD.letter = x'' AND NEW.letter IS NOT x'' BEGIN
    DELETE FROM long_texts WHERE id = OLD.seq * 4 + 2;
END;

CREATE TABLE keys (                       -- idempotency keys; digests, keyed with the secret
    digest BLOB PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    seq INTEGER NOT NULL REFERENCES prompts ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX keys_of ON keys (seq);

CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL);
CREATE TABLE terms (                      -- what a redrive has to know of the daemon's settings
    id INTEGER PRIMARY KEY CHECK (id = 1), everyday_limit INTEGER NOT NULL, timezone TEXT NOT NULL
);

CREATE TABLE days (day TEXT PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE probes (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL);
INSERT INTO probes VALUES (1, 0);

CREATE TABLE counts (state TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counts VALUES ('accepted', 0), ('answered', 0), ('delivered', 0), ('failed', 0);
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
    DELETE FROM long_texts WHERE id BETWEEN NEW.seq * 4 AND NEW.seq * 4 + 3;
END;
CREATE TRIGGER texts_gone AFTER DELETE ON prompts BEGIN
    DELETE FROM long_texts WHERE id BETWEEN OLD.seq * 4 AND OLD.seq * 4 + 3;
END;
"""

UPGRADES = {
    1: """
ALTER TABLE texts ADD COLUMN traceparent TEXT;
ALTER TABLE texts ADD COLUMN tracestate TEXT;
CREATE INDEX failures ON prompts (seq) WHERE state = 'failed';
""",
    2: """
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
    maybe_billed INTEGER NOT NULL DEFAULT 0,
    held REAL,
    error TEXT,
    letter_due REAL,
    letters INTEGER NOT NULL DEFAULT 0,
    billed INTEGER NOT NULL DEFAULT 0
);
INSERT INTO prompts_3 SELECT seq, id, state, due, day, accepted, answered, ended,
    CASE WHEN letter_due IS NULL THEN since ELSE ended END, tries, asks, deliveries,
    maybe_billed, CASE state WHEN 'accepted' THEN held END, error, letter_due, letters,
    maybe_billed > 0 FROM prompts ORDER BY seq;
DROP TABLE prompts;
ALTER TABLE prompts_3 RENAME TO prompts;
CREATE INDEX work ON prompts (state, due, seq) WHERE due IS NOT NULL;
CREATE INDEX letters ON prompts (letter_due) WHERE letter_due IS NOT NULL;
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
CREATE TRIGGER texts_delivered AFTER UPDATE OF state ON prompts WHEN NEW.state = 'delivered' BEGIN
    DELETE FROM long_texts WHERE id BETWEEN NEW.seq * 4 AND NEW.seq * 4 + 3;
END;
CREATE TRIGGER texts_gone AFTER DELETE ON prompts BEGIN
    DELETE FROM long_texts WHERE id BETWEEN OLD.seq * 4 AND OLD.seq * 4 + 3;
END;
""",
}
"""What makes of the tables of each earlier version those of the next; foreign keys are off."""
