-- Makes of the tables of version 5 those of version 6; foreign keys are off.

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
