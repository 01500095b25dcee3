-- Makes of the tables of version 6 those of version 7; foreign keys are off.

ALTER TABLE prompts ADD COLUMN ask_seconds REAL;
ALTER TABLE prompts ADD COLUMN answered_by TEXT;
ALTER TABLE prompts ADD COLUMN input_tokens INTEGER;
ALTER TABLE prompts ADD COLUMN output_tokens INTEGER;
ALTER TABLE prompts ADD COLUMN sent_seconds REAL;
ALTER TABLE prompts ADD COLUMN sent_status INTEGER;

CREATE INDEX waiting ON prompts (seq, not_before) WHERE state = 'accepted';
CREATE INDEX put_off ON prompts (seq) WHERE state = 'accepted' AND error IS NOT NULL;
CREATE INDEX finished ON prompts (state, seq) WHERE state = 'delivered' OR state = 'cancelled';

CREATE INDEX failures_by_reason ON prompts (
    substr(error, 1, instr(error || ': ', ': ') - 1), seq, ended
) WHERE state = 'failed';

CREATE INDEX claimed ON outbox (owner) WHERE owner IS NOT NULL;
CREATE INDEX tried ON outbox (destination) WHERE error IS NOT NULL;

CREATE TABLE attempts (
    seq INTEGER NOT NULL REFERENCES prompts ON DELETE CASCADE,
    kind TEXT NOT NULL,
    place INTEGER NOT NULL,
    number INTEGER NOT NULL,
    peer TEXT NOT NULL,
    started REAL NOT NULL,
    seconds REAL NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER,
    error TEXT NOT NULL,
    request_id TEXT,
    PRIMARY KEY (seq, kind, place)
) WITHOUT ROWID;

CREATE TABLE history (
    step INTEGER NOT NULL,
    start INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    counts TEXT NOT NULL,
    PRIMARY KEY (step, start, owner)
) WITHOUT ROWID;

CREATE TABLE pauses (
    what TEXT PRIMARY KEY,
    who TEXT NOT NULL,
    since REAL NOT NULL,
    resumed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    who TEXT NOT NULL,
    did TEXT NOT NULL
);

CREATE TABLE tiers (
    tier TEXT PRIMARY KEY, n INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO tiers VALUES ('flex', 0), ('batch', 0);
UPDATE tiers SET n = (SELECT count(*) FROM prompts
    WHERE state = 'accepted' AND tier <> 'standard' AND prompts.tier = tiers.tier);
CREATE TRIGGER tier_new AFTER INSERT ON prompts
WHEN NEW.tier <> 'standard' AND NEW.state = 'accepted' BEGIN
    UPDATE tiers SET n = n + 1 WHERE tier = NEW.tier;
END;
CREATE TRIGGER tier_moved AFTER UPDATE OF state, tier ON prompts
WHEN OLD.tier <> 'standard' OR NEW.tier <> 'standard' BEGIN
    UPDATE tiers SET n = n - 1 WHERE tier = OLD.tier AND OLD.state = 'accepted';
    UPDATE tiers SET n = n + 1 WHERE tier = NEW.tier AND NEW.state = 'accepted';
END;
