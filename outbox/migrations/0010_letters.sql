-- Dead letters: every failure that nobody could get past by itself, in one place; replays; automatic fixes; alerts.

-- One row per (message, consumer). `source`: a command from a dead queue, a fact that a stream holds, a row that the relay
-- set aside, or a failure of an order that its compensation has already answered (born resolved).
CREATE TABLE dead_letters (
    letter_id       text PRIMARY KEY,              -- derived from message_id and consumer
    source          text NOT NULL CHECK (source IN ('command', 'fact', 'outbox', 'order')),
    message_id      text NOT NULL,
    consumer        text NOT NULL,                 -- the work queue, the stream's group, `relay-<broker>`, or `orders`
    queue           text NOT NULL,                 -- the dead queue it came through; '' where it came through none
    order_id        text,
    type            text NOT NULL,                 -- of the command or fact; '' where it could not be read
    schema_version  integer,
    position        integer,
    routing_key     text NOT NULL,
    priority        smallint NOT NULL DEFAULT 0,
    headers         jsonb NOT NULL,                -- as they were sent, the trail of failures included
    body            bytea NOT NULL,                -- as it was sent
    failure_type    text NOT NULL,                 -- orders.failures.FailureType
    category        text NOT NULL CHECK (category IN ('transient', 'permanent', 'poison')),
    reason          text NOT NULL,                 -- why it was parked: a slug
    error           text NOT NULL,                 -- the error's class
    message         text NOT NULL,
    stack           text NOT NULL DEFAULT '',
    fingerprint     text NOT NULL,
    attempts        integer NOT NULL,
    generation      integer NOT NULL DEFAULT 1,    -- how often it was parked
    first_failed_at timestamptz NOT NULL,
    last_failed_at  timestamptz NOT NULL,
    parked_at       timestamptz NOT NULL,
    quarantined_at  timestamptz,
    -- Where a fact was read.
    topic           text,
    partition       integer,
    kafka_offset    bigint,
    -- What became of it.
    state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replaying', 'resolved', 'discarded')),
    resolved        boolean NOT NULL GENERATED ALWAYS AS (state IN ('resolved', 'discarded')) STORED,
    resolution      text,                          -- replayed, edited, superseded, compensated, fixed; or why it was discarded
    resolved_by     text,
    resolved_at     timestamptz,
    owner           text,
    snoozed_until   timestamptz,
    version         integer NOT NULL DEFAULT 1,    -- moves with each change: two operators cannot both be right
    UNIQUE (message_id, consumer),
    CHECK ((state IN ('resolved', 'discarded')) = (resolved_at IS NOT NULL))
) WITH (fillfactor = 85);
CREATE INDEX dead_letters_by_time ON dead_letters (last_failed_at DESC, letter_id DESC);
CREATE INDEX dead_letters_by_state ON dead_letters (state, last_failed_at DESC, letter_id DESC);
CREATE INDEX dead_letters_by_fingerprint ON dead_letters (fingerprint, state, last_failed_at DESC, letter_id DESC);
CREATE INDEX dead_letters_by_order ON dead_letters (order_id, last_failed_at DESC, letter_id DESC) WHERE order_id IS NOT NULL;
CREATE INDEX dead_letters_by_failure ON dead_letters (failure_type, state, last_failed_at DESC, letter_id DESC);
CREATE INDEX dead_letters_by_type ON dead_letters (type, state, last_failed_at DESC, letter_id DESC);
CREATE INDEX dead_letters_by_consumer ON dead_letters (consumer, state, last_failed_at DESC, letter_id DESC);
CREATE INDEX dead_letters_by_owner ON dead_letters (owner, last_failed_at DESC, letter_id DESC) WHERE owner IS NOT NULL;
CREATE INDEX dead_letters_by_words ON dead_letters USING gin (to_tsvector('simple', error || ' ' || reason || ' ' || message));

-- Letters of one kind, counted as they come and go.
CREATE TABLE letter_groups (
    fingerprint   text PRIMARY KEY,
    consumer      text NOT NULL,
    type          text NOT NULL,
    failure_type  text NOT NULL,
    category      text NOT NULL,
    error         text NOT NULL,
    example       text NOT NULL,                   -- one letter's message
    total         bigint NOT NULL,                 -- ever
    open          bigint NOT NULL,                 -- open or replaying now
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL,
    owner         text,
    snoozed_until timestamptz
) WITH (fillfactor = 60);
CREATE INDEX letter_groups_open ON letter_groups (open DESC, fingerprint);

-- Everything that was done to a letter, in order: its lineage.
CREATE TABLE letter_history (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    letter_id text NOT NULL,
    at        timestamptz NOT NULL,
    actor     text NOT NULL,                       -- a person's subject, `rule:<id>`, or a service
    action    text NOT NULL,                       -- sent, failed_again, resolved, discarded, note, assigned, snoozed, edited, …
    detail    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX letter_history_by_letter ON letter_history (letter_id, id);

-- Edits. The letter keeps its original body; commands that move money wait for a second person.
CREATE TABLE letter_edits (
    edit_id     text PRIMARY KEY,
    letter_id   text NOT NULL,
    base        text NOT NULL,                     -- SHA-256 of the body that was edited
    body        bytea NOT NULL,
    diff        text NOT NULL,
    reason      text NOT NULL,
    state       text NOT NULL CHECK (state IN ('waiting', 'sent', 'refused')),
    proposed_by text NOT NULL,
    proposed_at timestamptz NOT NULL,
    decided_by  text,
    decided_at  timestamptz
);
CREATE INDEX letter_edits_by_letter ON letter_edits (letter_id, proposed_at);

-- Replays of many: a canary first, then more, then the rest; each step in the database, so that a restart goes on.
CREATE TABLE letter_replays (
    replay_id   text PRIMARY KEY,
    filter      jsonb NOT NULL,
    cutoff      timestamptz NOT NULL,              -- what failed later is not swept in
    reason      text NOT NULL,
    stages      integer[] NOT NULL,                -- how many are sent in each stage; the last one is the rest
    stage       integer NOT NULL DEFAULT 0,
    per_second  integer,                           -- NULL: as fast as it goes
    state       text NOT NULL CHECK (state IN ('running', 'paused', 'stopped', 'cancelled', 'done')),
    why         text,                              -- why it stopped
    total       integer NOT NULL,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    ended_at    timestamptz
);
CREATE INDEX letter_replays_running ON letter_replays (created_at) WHERE state = 'running';
CREATE TABLE letter_replay_items (
    replay_id text NOT NULL REFERENCES letter_replays,
    number    integer NOT NULL,                    -- oldest failure first
    letter_id text NOT NULL,
    stage     integer NOT NULL,
    state     text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'done', 'failed', 'skipped')),
    PRIMARY KEY (replay_id, number)
) WITH (fillfactor = 80);
CREATE INDEX letter_replay_items_by_letter ON letter_replay_items (letter_id) WHERE state = 'sent';

-- Automatic fixes, and every use of one.
CREATE TABLE letter_rules (
    rule_id      text PRIMARY KEY,
    name         text NOT NULL UNIQUE,
    description  text NOT NULL DEFAULT '',
    match        jsonb NOT NULL,
    action       jsonb NOT NULL,
    enabled      boolean NOT NULL,
    per_hour     integer NOT NULL CHECK (per_hour > 0),
    expires_at   timestamptz NOT NULL,
    version      integer NOT NULL DEFAULT 1,
    shipped      boolean NOT NULL DEFAULT false,   -- came with the library
    updated_by   text NOT NULL,
    updated_at   timestamptz NOT NULL
);
CREATE TABLE letter_rule_uses (
    rule_id    text NOT NULL REFERENCES letter_rules,
    letter_id  text NOT NULL,
    generation integer NOT NULL,
    at         timestamptz NOT NULL,
    outcome    text NOT NULL,
    PRIMARY KEY (letter_id, generation, rule_id)
);
CREATE INDEX letter_rule_uses_by_rule ON letter_rule_uses (rule_id, at);

-- What somebody must look at now: raised once per subject, cleared when it is over.
CREATE TABLE alerts (
    kind       text NOT NULL,                      -- poison, tier-stuck, refund-parked, breaker-open, …
    subject    text NOT NULL,
    detail     text NOT NULL,
    times      integer NOT NULL DEFAULT 1,
    raised_at  timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    cleared_at timestamptz,
    PRIMARY KEY (kind, subject)
);

-- Commands in the hands of a worker that were in a worker's hands before: what is still here after a crash was there when it
-- happened.
CREATE TABLE started_commands (
    message_key text PRIMARY KEY,                  -- the queue and the message's id, or its body's digest
    times       integer NOT NULL,
    started_at  timestamptz NOT NULL
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_app') THEN
        GRANT SELECT, INSERT, UPDATE ON dead_letters, letter_groups, letter_edits, letter_replays, letter_replay_items,
            letter_rules, alerts TO rushline_app;
        GRANT SELECT, INSERT ON letter_history, letter_rule_uses TO rushline_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON started_commands TO rushline_app;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO rushline_app;
    END IF;
END $$;
