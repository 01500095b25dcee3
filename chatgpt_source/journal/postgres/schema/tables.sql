-- The tables of version 2. Instants are seconds since the epoch by the database's clock.

CREATE SEQUENCE tokens;
CREATE TABLE schema (version integer NOT NULL);
INSERT INTO schema VALUES (2);
CREATE TABLE secret (value bytea NOT NULL);
CREATE TABLE terms (                      -- what a redrive has to know of the daemons' settings
    id integer PRIMARY KEY CHECK (id = 1), everyday_limit integer NOT NULL, timezone text NOT NULL
);
CREATE TABLE days (day text PRIMARY KEY, used integer NOT NULL);
CREATE TABLE ended_counts (               -- their sum is how many prompts have ended so
    state text NOT NULL, n bigint NOT NULL -- rows are added, never changed: nobody waits for one
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE TABLE probes (count bigint NOT NULL);

CREATE TABLE owners (                     -- runs of daemons; an id is never used again
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    until timestamptz NOT NULL,           -- the end of its lease
    number bigint NOT NULL DEFAULT 0,     -- of its last group that was committed
    ended boolean NOT NULL DEFAULT FALSE  -- its claims are others'
) WITH (fillfactor = 50);

CREATE TABLE copy (                       -- of a journal in a file; until it is whole, no run begins
    id integer PRIMARY KEY CHECK (id = 1),
    source bytea NOT NULL,                -- a digest of what the file had
    began double precision NOT NULL,
    ahead double precision NOT NULL,      -- how far this clock is ahead of the file's
    owner bigint,                         -- the last one before it
    leftovers bigint NOT NULL DEFAULT 0,  -- the last that are here
    prompts bigint NOT NULL DEFAULT 0,
    whole timestamptz                     -- when it ended; NULL: it has not
);
-- Who connected before its end may have read the secret that was here before it.
CREATE FUNCTION require_whole() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM copy WHERE whole IS NULL OR whole >= (
        SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()
    )) THEN
        RAISE 'a copy has not ended, or only after this connection began';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER whole BEFORE INSERT ON owners FOR EACH ROW EXECUTE FUNCTION require_whole();

CREATE TABLE prompts (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    state text NOT NULL CHECK (
        state IN ('accepted', 'submitted', 'answered', 'delivered', 'failed', 'cancelled')
    ),
    due double precision,
    day text NOT NULL,
    accepted double precision NOT NULL,   -- these three are dates, for people
    answered double precision,
    ended double precision,
    since double precision NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    asks integer NOT NULL DEFAULT 0,
    deliveries integer NOT NULL DEFAULT 0,
    possibly_billed integer NOT NULL DEFAULT 0,
    billed boolean NOT NULL DEFAULT FALSE,
    held double precision,
    error text,
    owner bigint,
    token bigint NOT NULL DEFAULT 0,
    target text NOT NULL,
    request_id text,
    not_before double precision,
    deadline double precision,
    ends double precision,
    needed_until double precision,
    kept_until double precision,
    submitted text,
    polls integer NOT NULL DEFAULT 0,
    missing_since double precision,
    missing integer NOT NULL DEFAULT 0,
    provider text,
    tier text NOT NULL,
    batch bigint,
    size integer NOT NULL,                -- bytes of its text and its details
    ask_seconds double precision,
    answered_by text,
    input_tokens bigint,
    output_tokens bigint,
    sent_seconds double precision,
    sent_status integer
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
-- A claim changes no column of an index, so that it stays within its page: none has `owner`.
CREATE INDEX to_ask ON prompts (tier, due, seq) WHERE state = 'accepted';
CREATE INDEX to_poll ON prompts (due, seq) WHERE state = 'submitted';
CREATE INDEX waiting ON prompts (seq) WHERE state IN ('accepted', 'submitted', 'answered');
CREATE INDEX to_expire ON prompts (ends) WHERE ends IS NOT NULL AND state IN ('accepted', 'submitted');
CREATE INDEX to_move_up ON prompts (tier, deadline) WHERE state = 'accepted' AND tier <> 'standard';
CREATE INDEX in_batch ON prompts (batch, seq) WHERE batch IS NOT NULL;
CREATE INDEX needed ON prompts (needed_until) WHERE needed_until IS NOT NULL;
CREATE INDEX kept ON prompts (kept_until) WHERE kept_until IS NOT NULL;
CREATE INDEX ends ON prompts (ended) WHERE ended IS NOT NULL;
CREATE INDEX failures ON prompts (seq) WHERE state = 'failed';
CREATE INDEX failures_by_reason ON prompts (
    (left(error, strpos(error || ': ', ': ') - 1)), seq, ended
) WHERE state = 'failed';
CREATE INDEX cancellations ON prompts (seq) WHERE state = 'cancelled';

CREATE TABLE texts (                      -- bytes: `text` takes no NUL
    seq bigint PRIMARY KEY REFERENCES prompts ON DELETE CASCADE,
    prompt bytea NOT NULL,
    source text NOT NULL,
    type text NOT NULL,
    event bytea,
    letter bytea,
    traceparent text,
    tracestate text,
    details text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE outbox (
    seq bigint NOT NULL REFERENCES prompts ON DELETE CASCADE,
    destination text NOT NULL,
    due double precision NOT NULL,
    since double precision NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    held double precision,
    error text,
    owner bigint,
    token bigint NOT NULL DEFAULT 0,
    size integer NOT NULL,                -- bytes of the event
    PRIMARY KEY (seq, destination)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX to_deliver ON outbox (destination, due, seq);

CREATE TABLE attempts (
    seq bigint NOT NULL REFERENCES prompts ON DELETE CASCADE,
    kind text NOT NULL,
    place integer NOT NULL,
    number integer NOT NULL,
    peer text NOT NULL,
    started double precision NOT NULL,
    seconds double precision NOT NULL,
    outcome text NOT NULL,
    status integer,
    error text NOT NULL,
    request_id text,
    PRIMARY KEY (seq, kind, place)
);

CREATE TABLE history (
    step integer NOT NULL,
    start bigint NOT NULL,
    owner bigint NOT NULL,
    counts text NOT NULL,
    PRIMARY KEY (step, start, owner)
);

CREATE TABLE pauses (
    what text PRIMARY KEY,
    who text NOT NULL,
    since double precision NOT NULL,
    resumed boolean NOT NULL DEFAULT FALSE
);

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    who text NOT NULL,
    did text NOT NULL
);

CREATE TABLE keys (
    digest bytea PRIMARY KEY,
    fingerprint bytea NOT NULL,
    seq bigint NOT NULL REFERENCES prompts ON DELETE CASCADE
);
CREATE INDEX keys_of ON keys (seq);

CREATE TABLE batches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    created double precision NOT NULL,
    deadline double precision,
    file text,
    remote text,
    results text,
    cancelled boolean NOT NULL DEFAULT FALSE,
    owner bigint
);

CREATE TABLE leftovers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    submitted text NOT NULL,
    provider text,
    stop boolean NOT NULL,
    forget boolean NOT NULL,
    since double precision NOT NULL,
    due double precision NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    owner bigint,
    token bigint NOT NULL DEFAULT 0
);
CREATE INDEX to_tidy_up ON leftovers (due, id);

CREATE TABLE peers (
    name text PRIMARY KEY,
    fingerprint bytea NOT NULL,
    held text,
    since double precision,
    misses integer NOT NULL,
    probe_at double precision,
    throttled_until double precision,
    failing boolean NOT NULL,
    owner bigint,                         -- who stored it
    version bigint NOT NULL DEFAULT nextval('tokens') -- so that others see that it has changed
);

CREATE FUNCTION forget_texts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM texts WHERE seq = NEW.seq;
    RETURN NULL;
END $$;
CREATE TRIGGER texts_unneeded AFTER UPDATE OF state, needed_until, kept_until ON prompts
FOR EACH ROW WHEN (NEW.state = 'cancelled' OR
    NEW.state = 'delivered' AND NEW.needed_until IS NULL AND NEW.kept_until IS NULL)
EXECUTE FUNCTION forget_texts();
