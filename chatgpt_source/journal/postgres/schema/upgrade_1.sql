-- Makes of the tables of version 1 those of version 2. Daemons that know version 1 go on meanwhile.

ALTER TABLE prompts
    ADD COLUMN ask_seconds double precision,
    ADD COLUMN answered_by text,
    ADD COLUMN input_tokens bigint,
    ADD COLUMN output_tokens bigint,
    ADD COLUMN sent_seconds double precision,
    ADD COLUMN sent_status integer;

CREATE INDEX failures_by_reason ON prompts (
    (left(error, strpos(error || ': ', ': ') - 1)), seq, ended
) WHERE state = 'failed';

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
