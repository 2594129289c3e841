-- Several schedulers on one store, what people ask of jobs while they run, and what runs cost.

-- Who works on a job, and until when it is his unless he renews it, on the store's clock.
ALTER TABLE jobs ADD COLUMN owner TEXT;
ALTER TABLE jobs ADD COLUMN lease_until_ms BIGINT;
-- 'hold': not to be started; 'cancel': not to be started, and to be left if it runs.
ALTER TABLE jobs ADD COLUMN wish TEXT CHECK (wish IN ('hold', 'cancel'));
-- Higher goes first.
ALTER TABLE jobs ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
-- After a failure that may pass: not to be started before.
ALTER TABLE jobs ADD COLUMN retry_at_ms BIGINT;
CREATE INDEX jobs_owner ON jobs (owner);

-- Most that a worker had in memory, and how long its cohort was expected to take.
ALTER TABLE attempts ADD COLUMN memory_bytes BIGINT;
ALTER TABLE attempts ADD COLUMN expected_seconds DOUBLE PRECISION;

-- Processes that start workers. One that was killed never ends here; its leases do.
CREATE TABLE schedulers (
    owner TEXT NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    experiment TEXT,
    command TEXT,
    slots BIGINT NOT NULL,
    started_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    -- 'drain': start nothing more; 'stop': save and end; 'now': end at once.
    wish TEXT CHECK (wish IN ('drain', 'stop', 'now'))
);
