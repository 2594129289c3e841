-- What was claimed of an experiment, and how far it had run by then.
CREATE TABLE claims (
    experiment TEXT NOT NULL REFERENCES experiments (name),
    report TEXT NOT NULL,
    -- Of the experiment's hash and the claims' text.
    hash TEXT NOT NULL,
    text TEXT NOT NULL,
    recorded_ms BIGINT NOT NULL,
    -- Of the experiment's jobs, those that had begun, and all.
    begun BIGINT NOT NULL,
    jobs BIGINT NOT NULL,
    PRIMARY KEY (experiment, report, hash)
);
