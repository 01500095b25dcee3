-- The tables of version 7.

CREATE TABLE prompts (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (
        state IN ('accepted', 'submitted', 'answered', 'delivered', 'failed', 'cancelled')
    ),
    due REAL,                             -- steady: when it may be asked; NULL: nothing to ask
    day TEXT NOT NULL,                    -- whose unit it took
    accepted REAL NOT NULL,
    answered REAL,                        -- these three are dates, by the wall clock
    ended REAL,                           -- when it reached a final state
    since REAL NOT NULL,                  -- steady: from when the time that asking may take runs
    tries INTEGER NOT NULL DEFAULT 0,     -- asks since then
    asks INTEGER NOT NULL DEFAULT 0,      -- asks ever
    deliveries INTEGER NOT NULL DEFAULT 0, -- to the target, but for those its outbox row counts
    possibly_billed INTEGER NOT NULL DEFAULT 0,
    billed INTEGER NOT NULL DEFAULT 0,    -- whether a call may have been, since it took its unit
    held REAL,                            -- steady: when an ask first met a hold
    error TEXT,                           -- of the last ask, or why it failed
    owner INTEGER,                        -- who has claimed it to be asked; NULL: nobody
    token INTEGER NOT NULL DEFAULT 0,     -- that claim's, or the last one's
    target TEXT NOT NULL DEFAULT 'target', -- the destination of its event; 'none': it has none
    request_id TEXT,                      -- the provider's, of the last call
    not_before REAL,                      -- steady, as all that follow: when it may first be asked
    deadline REAL,                        -- when asking ends, instead of by `give_up_after`
    ends REAL,                            -- that, or when the prompt expires, if that is earlier
    needed_until REAL,                    -- until when somebody waits for its answer
    kept_until REAL,                      -- until when a delivered event is kept
    submitted TEXT,                       -- the provider's id, under which it keeps the answer
    polls INTEGER NOT NULL DEFAULT 0,     -- since it was submitted
    missing_since REAL,                   -- from when on the provider did not know that id
    missing INTEGER NOT NULL DEFAULT 0,   -- how many polls in a row said so
    provider TEXT,                        -- which has it under that id; NULL: the first
    tier TEXT NOT NULL DEFAULT 'standard', -- that serves it next: 'standard', 'flex', or 'batch'
    batch INTEGER,                        -- that it is in
    ask_seconds REAL,                     -- how long the call took that brought the answer
    answered_by TEXT,                     -- the peer that brought it
    input_tokens INTEGER,                 -- of that call, as the provider counts them
    output_tokens INTEGER,
    sent_seconds REAL,                    -- how long the call took that delivered the event
    sent_status INTEGER                   -- its HTTP status
);
CREATE INDEX to_ask ON prompts (owner, tier, due, seq) WHERE state = 'accepted';
CREATE INDEX waiting ON prompts (seq, not_before) WHERE state = 'accepted';
CREATE INDEX put_off ON prompts (seq) WHERE state = 'accepted' AND error IS NOT NULL;
CREATE INDEX to_poll ON prompts (owner, due, seq) WHERE state = 'submitted';
CREATE INDEX to_expire ON prompts (ends)
    WHERE ends IS NOT NULL AND (state = 'accepted' OR batch IS NOT NULL);
CREATE INDEX to_give_up ON prompts (owner, ends)
    WHERE ends IS NOT NULL AND state = 'submitted' AND batch IS NULL;
CREATE INDEX to_move_up ON prompts (tier, deadline) WHERE state = 'accepted' AND tier <> 'standard';
CREATE INDEX in_batch ON prompts (batch, seq) WHERE batch IS NOT NULL;
CREATE INDEX needed ON prompts (needed_until) WHERE needed_until IS NOT NULL;
CREATE INDEX kept ON prompts (kept_until) WHERE kept_until IS NOT NULL;
CREATE INDEX ends ON prompts (ended) WHERE ended IS NOT NULL;
CREATE INDEX finished ON prompts (state, seq) WHERE state = 'delivered' OR state = 'cancelled';
CREATE INDEX failures ON prompts (seq) WHERE state = 'failed';
CREATE INDEX failures_by_reason ON prompts (
    substr(error, 1, instr(error || ': ', ': ') - 1), seq, ended
) WHERE state = 'failed';

CREATE TABLE batches (                    -- prompts that are sent together, in one file
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,                    -- by which the provider's list finds it
    created REAL NOT NULL,                -- a date
    deadline REAL,                        -- steady: the first of its prompts; NULL: it is open
    file TEXT,                            -- the provider's id of its file
    remote TEXT,                          -- the provider's id of it
    results TEXT,                         -- JSON: the provider's ids of the files with its results
    cancelled INTEGER NOT NULL DEFAULT 0  -- whether the provider was told to stop it
);

CREATE TABLE leftovers (                  -- what a provider keeps of a prompt, and nobody needs
    id INTEGER PRIMARY KEY,
    submitted TEXT NOT NULL,              -- the provider's id
    provider TEXT,                        -- its name; NULL: the first
    stop INTEGER NOT NULL,                -- whether it is to stop its work
    forget INTEGER NOT NULL,              -- whether it is to delete it
    since REAL NOT NULL,
    due REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    owner INTEGER,
    token INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX to_tidy_up ON leftovers (due, id) WHERE owner IS NULL;

CREATE TABLE outbox (                     -- an event that is to be delivered to a destination
    seq INTEGER NOT NULL,                 -- the prompt's; a trigger takes the row along with it
    destination TEXT NOT NULL,            -- 'target', another target's name, or 'dead_letter'
    due REAL NOT NULL,                    -- steady, as all instants here
    since REAL NOT NULL,                  -- from when the time that delivering may take runs
    attempts INTEGER NOT NULL DEFAULT 0,
    held REAL,
    error TEXT,                           -- of the last attempt
    owner INTEGER,
    token INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (seq, destination)
) WITHOUT ROWID;
CREATE INDEX to_deliver ON outbox (destination, due, seq) WHERE owner IS NULL;
CREATE INDEX claimed ON outbox (owner) WHERE owner IS NOT NULL;
CREATE INDEX tried ON outbox (destination) WHERE error IS NOT NULL;

CREATE TABLE attempts (                   -- calls for a prompt that failed: some, and the last ones
    seq INTEGER NOT NULL REFERENCES prompts ON DELETE CASCADE,
    kind TEXT NOT NULL,                   -- 'ask', 'poll', 'delivery', or 'dead_letter'
    place INTEGER NOT NULL,               -- a later one takes the place of an earlier one
    number INTEGER NOT NULL,              -- which of its kind it was, from 1
    peer TEXT NOT NULL,                   -- whom it called
    started REAL NOT NULL,                -- a date
    seconds REAL NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER,                       -- of HTTP
    error TEXT NOT NULL,
    request_id TEXT,                      -- the provider's
    PRIMARY KEY (seq, kind, place)
) WITHOUT ROWID;

CREATE TABLE history (                    -- what happened in a minute or an hour
    step INTEGER NOT NULL,                -- its seconds: 60 or 3600
    start INTEGER NOT NULL,               -- a date
    owner INTEGER NOT NULL,               -- who counted it
    counts TEXT NOT NULL,                 -- JSON
    PRIMARY KEY (step, start, owner)
) WITHOUT ROWID;

CREATE TABLE pauses (                     -- what an operator has paused, or resumed again
    what TEXT PRIMARY KEY,                -- 'intake', 'asking', or a receiver's label
    who TEXT NOT NULL,                    -- did that
    since REAL NOT NULL,                  -- a date
    resumed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE audit (                      -- what commands have done, until a daemon has logged it
    id INTEGER PRIMARY KEY,
    who TEXT NOT NULL,
    did TEXT NOT NULL
);

CREATE TABLE owners (                     -- runs of a daemon; an id is never used again
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    renewed REAL NOT NULL                 -- the date of its start
);
CREATE TABLE peers (                      -- what is known of each, for the next start
    name TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,            -- of its settings: a digest, keyed with the secret
    held TEXT,                            -- why it is not called, in words
    since REAL,
    misses INTEGER NOT NULL,
    probe_at REAL,
    throttled_until REAL,
    failing INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE texts (
    seq INTEGER PRIMARY KEY REFERENCES prompts ON DELETE CASCADE,
    prompt TEXT NOT NULL,
    source TEXT NOT NULL,
    type TEXT NOT NULL,
    event BLOB,
    letter BLOB,                          -- the dead letter, an event too
    traceparent TEXT,                     -- W3C Trace Context, if its request had one
    tracestate TEXT,
    details TEXT,                         -- JSON: what the prompt has besides its text
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
INSERT INTO counts VALUES ('accepted', 0), ('answered', 0), ('delivered', 0), ('failed', 0),
    ('cancelled', 0), ('submitted', 0);
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
CREATE TABLE tiers (                      -- how many are accepted, of each but `standard`
    tier TEXT PRIMARY KEY, n INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO tiers VALUES ('flex', 0), ('batch', 0);
CREATE TRIGGER tier_new AFTER INSERT ON prompts
WHEN NEW.tier <> 'standard' AND NEW.state = 'accepted' BEGIN
    UPDATE tiers SET n = n + 1 WHERE tier = NEW.tier;
END;
CREATE TRIGGER tier_moved AFTER UPDATE OF state, tier ON prompts
WHEN OLD.tier <> 'standard' OR NEW.tier <> 'standard' BEGIN
    UPDATE tiers SET n = n - 1 WHERE tier = OLD.tier AND OLD.state = 'accepted';
    UPDATE tiers SET n = n + 1 WHERE tier = NEW.tier AND NEW.state = 'accepted';
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
