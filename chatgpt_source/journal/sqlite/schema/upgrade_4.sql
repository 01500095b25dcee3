-- Makes of the tables of version 4 those of version 5; foreign keys are off.

ALTER TABLE prompts ADD COLUMN provider TEXT;
ALTER TABLE prompts ADD COLUMN tier TEXT NOT NULL DEFAULT 'standard';
ALTER TABLE prompts ADD COLUMN batch INTEGER;
DROP INDEX to_ask;
DROP INDEX to_expire;
CREATE INDEX to_ask ON prompts (owner, tier, due, seq) WHERE state = 'accepted';
CREATE INDEX to_expire ON prompts (ends)
    WHERE ends IS NOT NULL AND (state = 'accepted' OR batch IS NOT NULL);
CREATE INDEX to_move_up ON prompts (tier, deadline) WHERE state = 'accepted' AND tier <> 'standard';
CREATE INDEX in_batch ON prompts (batch, seq) WHERE batch IS NOT NULL;

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
