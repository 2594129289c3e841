-- What a sweep keeps. Common SQL of SQLite and PostgreSQL: text ids made by the client, times as BIGINT milliseconds
-- since 1970, JSON and words as TEXT, flags as BIGINT 0 or 1, shares and losses as DOUBLE PRECISION.

-- An experiment file as it was last run.
CREATE TABLE experiments (
    name TEXT NOT NULL PRIMARY KEY,
    hash TEXT NOT NULL,
    title TEXT,
    text TEXT NOT NULL,
    recorded_ms BIGINT NOT NULL
);

-- A job by content. What is in `text` decides; the columns after it are read out of it for the sake of queries.
CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    text TEXT NOT NULL,
    data TEXT NOT NULL,
    student TEXT NOT NULL,
    teaching TEXT NOT NULL,
    epochs BIGINT NOT NULL,
    batch BIGINT NOT NULL,
    resolution BIGINT NOT NULL,
    learning_rate DOUBLE PRECISION NOT NULL,
    weight_decay DOUBLE PRECISION NOT NULL,
    temperature DOUBLE PRECISION,
    seed BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    -- The newest attempt, 0 before the first: the fence that writes must pass.
    attempt BIGINT NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'open'
        CHECK (state IN ('open', 'running', 'interrupted', 'done', 'failed', 'blocked')),
    -- Why it failed or is blocked.
    message TEXT,
    blocked_by TEXT REFERENCES jobs (id)
);
CREATE INDEX jobs_state ON jobs (state);

-- Which jobs an experiment asks for, and where they stand on its axes.
CREATE TABLE experiment_jobs (
    experiment TEXT NOT NULL REFERENCES experiments (name),
    job TEXT NOT NULL REFERENCES jobs (id),
    ordinal BIGINT NOT NULL,
    axes TEXT NOT NULL,
    -- 1: not in the grid, only a teacher of something that is.
    needed BIGINT NOT NULL,
    PRIMARY KEY (experiment, job)
);
CREATE INDEX experiment_jobs_job ON experiment_jobs (job);

-- Each start of a job.
CREATE TABLE attempts (
    job TEXT NOT NULL REFERENCES jobs (id),
    attempt BIGINT NOT NULL,
    owner TEXT NOT NULL,
    cohort TEXT,
    host TEXT,
    pid BIGINT,
    device TEXT,
    threads BIGINT,
    version TEXT,
    binary_sha256 TEXT,
    git_commit TEXT,
    command TEXT,
    started_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    outcome TEXT CHECK (outcome IN ('finished', 'stopped', 'failed')),
    failure TEXT,
    message TEXT,
    PRIMARY KEY (job, attempt)
);

-- One row an epoch of a job, from whichever attempt trained it first.
CREATE TABLE epochs (
    job TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    step BIGINT NOT NULL,
    images BIGINT NOT NULL,
    training_loss DOUBLE PRECISION,
    learning_rate DOUBLE PRECISION,
    gradient_norm DOUBLE PRECISION,
    student_flops DOUBLE PRECISION,
    teacher_flops DOUBLE PRECISION,
    seconds DOUBLE PRECISION,
    images_per_second DOUBLE PRECISION,
    PRIMARY KEY (job, epoch),
    FOREIGN KEY (job, attempt) REFERENCES attempts (job, attempt)
);

CREATE TABLE evaluations (
    job TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    split TEXT NOT NULL CHECK (split IN ('train', 'validation', 'test')),
    images BIGINT NOT NULL,
    loss DOUBLE PRECISION,
    top1 DOUBLE PRECISION,
    top5 DOUBLE PRECISION,
    kl DOUBLE PRECISION,
    agreement DOUBLE PRECISION,
    PRIMARY KEY (job, epoch, split),
    FOREIGN KEY (job, epoch) REFERENCES epochs (job, epoch)
);

-- A job's teachers, measured on the job's data before its first step.
CREATE TABLE teachers (
    job TEXT NOT NULL,
    -- Position in the job's list; -1 for the ensemble of several.
    teacher BIGINT NOT NULL,
    split TEXT NOT NULL CHECK (split IN ('train', 'validation', 'test')),
    attempt BIGINT NOT NULL,
    images BIGINT NOT NULL,
    top1 DOUBLE PRECISION,
    top5 DOUBLE PRECISION,
    PRIMARY KEY (job, teacher, split),
    FOREIGN KEY (job, attempt) REFERENCES attempts (job, attempt)
);

-- What happened, in words: starts, ends, torn checkpoints, blocks. `id` is the hash of the message.
CREATE TABLE events (
    id TEXT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    job TEXT NOT NULL REFERENCES jobs (id),
    -- None where no attempt was begun: a blocked job.
    attempt BIGINT,
    kind TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX events_job ON events (job, at_ms);
