-- What was handed to a batch system, and who hands out.

-- Of each experiment one process submits and looks after tasks, until its lease ends on the store's clock.
CREATE TABLE controllers (
    experiment TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    host TEXT NOT NULL,
    lease_until_ms BIGINT NOT NULL
);

-- An array of tasks. Written before the batch system is asked, found again there by its tag.
CREATE TABLE submissions (
    tag TEXT NOT NULL PRIMARY KEY,
    experiment TEXT NOT NULL,
    manifest TEXT NOT NULL,
    -- The batch system's number; none before it answered.
    number TEXT,
    submitted_ms BIGINT NOT NULL
);
CREATE INDEX submissions_experiment ON submissions (experiment);

-- A task's jobs: a cohort.
CREATE TABLE tasks (
    tag TEXT NOT NULL REFERENCES submissions (tag),
    place BIGINT NOT NULL,
    job TEXT NOT NULL REFERENCES jobs (id),
    -- How far the job was when it was submitted: epochs, for whether tasks bring it forward.
    epoch BIGINT NOT NULL,
    -- In the batch system's words, as last seen: 'PENDING', 'RUNNING', 'TIMEOUT'.
    state TEXT NOT NULL,
    reason TEXT,
    node TEXT,
    -- When it was seen to be over; none while it is not.
    ended_ms BIGINT,
    PRIMARY KEY (tag, place, job)
);
CREATE INDEX tasks_job ON tasks (job);

-- The folder that a server's database belongs to, by the name that lies in it: results of jobs are files there.
CREATE TABLE homes (
    id TEXT NOT NULL PRIMARY KEY,
    folder TEXT NOT NULL
);
