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
    -- The fingerprint is a word too, so that words within some groups are looked for in one index.
    words           tsvector NOT NULL GENERATED ALWAYS AS (
        to_tsvector('simple', error || ' ' || reason || ' ' || message) || array_to_tsvector(ARRAY[fingerprint])) STORED,
    UNIQUE (message_id, consumer),
    CHECK ((state IN ('resolved', 'discarded')) = (resolved_at IS NOT NULL))
) WITH (fillfactor = 85);
-- Type, consumer, failure type and category follow from the fingerprint: such filters are answered through letter_groups and
-- the index by fingerprint, so that not even a conjunction that nothing fulfils reads the table.
CREATE INDEX dead_letters_by_state ON dead_letters (state, last_failed_at DESC, letter_id DESC);
CREATE INDEX dead_letters_by_fingerprint ON dead_letters (fingerprint, state, last_failed_at DESC, letter_id DESC);
CREATE INDEX dead_letters_by_order ON dead_letters (order_id, last_failed_at DESC, letter_id DESC) WHERE order_id IS NOT NULL;
CREATE INDEX dead_letters_by_owner ON dead_letters (owner, last_failed_at DESC, letter_id DESC) WHERE owner IS NOT NULL;
CREATE INDEX dead_letters_by_words ON dead_letters USING gin (words);
-- What a compensation may have superseded, and what was sent back to the relay.
CREATE INDEX dead_letters_of_orders ON dead_letters (parked_at, letter_id)
    WHERE source = 'command' AND state IN ('open', 'replaying') AND order_id IS NOT NULL;
CREATE INDEX dead_letters_sent_back ON dead_letters (letter_id) WHERE source = 'outbox' AND state = 'replaying';

-- Letters of one kind, counted as they come and go.
CREATE TABLE letter_groups (
    fingerprint   text PRIMARY KEY,
    consumer      text NOT NULL,
    type          text NOT NULL,
    failure_type  text NOT NULL,
    category      text NOT NULL,
    error         text NOT NULL,
    example       text NOT NULL,                   -- one letter's message
    total         bigint NOT NULL,                 -- in whatever state
    open          bigint NOT NULL,                 -- open or replaying now
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL,
    owner         text,
    snoozed_until timestamptz
) WITH (fillfactor = 60);
CREATE INDEX letter_groups_open ON letter_groups (open DESC, fingerprint);

-- The rows that the relay set aside, once each, as letters.
ALTER TABLE outbox_set_aside ADD COLUMN letter_id text;
CREATE INDEX outbox_set_aside_new ON outbox_set_aside (id) WHERE letter_id IS NULL;

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

-- Records letters and counts their groups, one by one in one call. Returns the letters that are new or open again.
--
-- What comes twice changes nothing: a message can be parked twice (a worker that died between parking and acknowledging),
-- and a parked message can be delivered twice to whoever records it. Three things tell a copy from a new failure: when it
-- was parked, when it failed first (a message that was sent again starts a new trail), and whether it was done meanwhile.
--
-- Locks are taken in one order everywhere: orders, letters by id, items of replays, groups by fingerprint, alerts.
CREATE FUNCTION ingest_letters(p_letters jsonb, p_bodies bytea[], p_at timestamptz) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    r record;
    v dead_letters;
    o record;
    v_changed text[] := '{}';
    v_was integer;  -- whether its group counts it as open
    -- One line per change of a group.
    d_fingerprints text[] := '{}';
    d_totals integer[] := '{}';
    d_opens integer[] := '{}';
    d_letters text[] := '{}';
BEGIN
    FOR r IN
        SELECT l AS letter, e.n FROM jsonb_array_elements(p_letters) WITH ORDINALITY AS e (letter, n)
        CROSS JOIN LATERAL jsonb_populate_record(NULL::dead_letters, e.letter) AS l ORDER BY l.letter_id, l.parked_at, e.n
    LOOP
        v := r.letter;
        INSERT INTO dead_letters (
            letter_id, source, message_id, consumer, queue, order_id, type, schema_version, position, routing_key, priority,
            headers, body, failure_type, category, reason, error, message, stack, fingerprint, attempts, generation,
            first_failed_at, last_failed_at, parked_at, quarantined_at, topic, partition, kafka_offset, state, resolution,
            resolved_by, resolved_at)
        VALUES (
            v.letter_id, v.source, v.message_id, v.consumer, v.queue, v.order_id, v.type, v.schema_version, v.position,
            v.routing_key, v.priority, v.headers, p_bodies[r.n], v.failure_type, v.category, v.reason, v.error, v.message,
            v.stack, v.fingerprint, v.attempts, v.generation, v.first_failed_at, v.last_failed_at, v.parked_at,
            v.quarantined_at, v.topic, v.partition, v.kafka_offset, v.state, v.resolution, v.resolved_by, v.resolved_at)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            v_changed := v_changed || v.letter_id;
            d_fingerprints := d_fingerprints || v.fingerprint;
            d_totals := d_totals || 1;
            d_opens := d_opens || (v.state IN ('open', 'replaying'))::integer;
            d_letters := d_letters || v.letter_id;
            CONTINUE;
        END IF;

        SELECT l.letter_id, l.message_id, l.source, l.state, l.fingerprint, l.generation, l.parked_at, l.resolved_at,
               l.headers ->> 'rushline-first-failed-at' AS trail, l.headers ->> 'rushline-replay' AS replay
        INTO o FROM dead_letters l
        WHERE l.letter_id = v.letter_id OR (l.message_id = v.message_id AND l.consumer = v.consumer)
        ORDER BY (l.letter_id = v.letter_id) DESC LIMIT 1 FOR UPDATE;
        -- A copy, or the end of an order that is on record.
        CONTINUE WHEN v.state <> 'open' OR v.parked_at <= o.parked_at;
        IF o.source = 'command' THEN
            CONTINUE WHEN o.trail = v.headers ->> 'rushline-first-failed-at'
                OR o.replay = v.headers ->> 'rushline-replay'
                OR (o.state = 'replaying' AND NOT v.headers ? 'rushline-letter')
                OR EXISTS (SELECT FROM inbox i WHERE i.message_id = o.message_id);
        END IF;
        CONTINUE WHEN v.parked_at <= o.resolved_at
            OR (o.state = 'open' AND NOT v.headers ?| '{rushline-parked-at,quarantined_at}'::text[]);

        -- It failed again. The body stays the one that was first sent, even where an edited one failed.
        v_was := (o.state IN ('open', 'replaying'))::integer;
        UPDATE dead_letters SET
            queue = v.queue, headers = v.headers, failure_type = v.failure_type, category = v.category, reason = v.reason,
            error = v.error, message = v.message, stack = v.stack, fingerprint = v.fingerprint, attempts = v.attempts,
            generation = o.generation + (o.state <> 'open')::integer, last_failed_at = v.last_failed_at,
            parked_at = v.parked_at, quarantined_at = coalesce(v.quarantined_at, quarantined_at),
            topic = coalesce(v.topic, topic), partition = coalesce(v.partition, partition),
            kafka_offset = coalesce(v.kafka_offset, kafka_offset),
            state = 'open', resolution = NULL, resolved_by = NULL, resolved_at = NULL, version = version + 1
        WHERE letter_id = o.letter_id;
        INSERT INTO letter_history (letter_id, at, actor, action, detail)
        VALUES (o.letter_id, p_at, v.consumer, 'failed_again', jsonb_build_object(
            'after', o.state, 'error', v.error, 'reason', v.reason, 'message', v.message, 'attempts', v.attempts));
        UPDATE letter_replay_items SET state = 'failed' WHERE letter_id = o.letter_id AND state = 'sent';
        v_changed := v_changed || o.letter_id;
        d_fingerprints := d_fingerprints || ARRAY[o.fingerprint, v.fingerprint];
        d_totals := d_totals || ARRAY[-1, 1];
        d_opens := d_opens || ARRAY[-v_was, 1];
        d_letters := d_letters || ARRAY[o.letter_id, o.letter_id];
    END LOOP;

    INSERT INTO letter_groups AS g (fingerprint, consumer, type, failure_type, category, error, example, total, open, first_at,
                                    last_at)
    SELECT DISTINCT ON (d.fingerprint) d.fingerprint, l.consumer, l.type, l.failure_type, l.category, l.error, l.message,
           sum(d.total) OVER each, sum(d.open) OVER each, min(l.last_failed_at) OVER each, max(l.last_failed_at) OVER each
    FROM unnest(d_fingerprints, d_totals, d_opens, d_letters) WITH ORDINALITY AS d (fingerprint, total, open, letter_id, n)
    JOIN dead_letters l USING (letter_id)
    WINDOW each AS (PARTITION BY d.fingerprint)
    ORDER BY d.fingerprint, d.n
    ON CONFLICT (fingerprint) DO UPDATE SET
        total = g.total + excluded.total, open = g.open + excluded.open,
        first_at = least(g.first_at, excluded.first_at), last_at = greatest(g.last_at, excluded.last_at);
    RETURN v_changed;
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_app') THEN
        GRANT UPDATE (letter_id) ON outbox_set_aside TO rushline_app;
        GRANT SELECT, INSERT, UPDATE ON letter_groups, letter_replays, letter_replay_items, letter_rules, alerts TO rushline_app;
        -- What was sent stays as it was sent, and who proposed an edit of what: nobody but the owner of the tables changes these.
        GRANT SELECT, INSERT, UPDATE (queue, headers, failure_type, category, reason, error, message, stack, fingerprint, attempts,
            generation, last_failed_at, parked_at, quarantined_at, topic, partition, kafka_offset, state, resolution, resolved_by,
            resolved_at, owner, snoozed_until, version) ON dead_letters TO rushline_app;
        GRANT SELECT, INSERT, UPDATE (state, decided_by, decided_at) ON letter_edits TO rushline_app;
        GRANT SELECT, INSERT ON letter_history, letter_rule_uses TO rushline_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON started_commands TO rushline_app;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO rushline_app;
    END IF;
END $$;
