-- Makes of the tables of version 1 those of version 2; foreign keys are off.

ALTER TABLE texts ADD COLUMN traceparent TEXT;
ALTER TABLE texts ADD COLUMN tracestate TEXT;
CREATE INDEX failures ON prompts (seq) WHERE state = 'failed';
