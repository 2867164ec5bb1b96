-- The ledger as a log: each event is a leaf with an index of its own, partitions are contiguous ranges of leaves, and tiles,
-- checkpoints and archives stand beside it. The audit schema may be on a server of its own (RUSHLINE_AUDIT_DSN).

-- What was stored before now becomes the first leaves, in the order of time.
ALTER TABLE audit.events RENAME TO events_before;
ALTER INDEX audit.events_by_actor RENAME TO events_before_by_actor;
ALTER INDEX audit.events_by_action RENAME TO events_before_by_action;
ALTER INDEX audit.events_by_time RENAME TO events_before_by_time;
ALTER TABLE audit.events_default RENAME TO events_before_default;

-- `leaf_index`: its place in the log. `sequenced_at`: when it got that place; never goes back, so that a partition is a
-- contiguous range of leaves and a late event needs none that is closed. `chain`: an order's id; with `.looks`, what was
-- read of it; else what a person or rule did that is no step of an order. Everything else of the event is in `body`.
DO $$
DECLARE
    v_columns constant text := 'leaf_index bigint NOT NULL, sequenced_at timestamptz NOT NULL, chain text NOT NULL,
        position integer NOT NULL, event_id text NOT NULL, action text NOT NULL, actor_type text NOT NULL, actor_id text NOT NULL,
        new_state text, occurred_at timestamptz NOT NULL, body bytea NOT NULL, PRIMARY KEY (leaf_index, sequenced_at)';
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        EXECUTE format('CREATE TABLE audit.events (%s)', v_columns);
        PERFORM create_hypertable('audit.events', by_range('sequenced_at', INTERVAL '7 days'), create_default_indexes => false);
    ELSE
        EXECUTE format('CREATE TABLE audit.events (%s) PARTITION BY RANGE (sequenced_at)', v_columns);
        CREATE TABLE audit.events_default PARTITION OF audit.events DEFAULT;
    END IF;
END $$;
CREATE INDEX events_by_chain ON audit.events (chain, position);
CREATE INDEX events_by_id ON audit.events USING hash (event_id);
CREATE INDEX events_by_actor ON audit.events (actor_id, occurred_at);
CREATE INDEX events_by_action ON audit.events (action, occurred_at);
CREATE INDEX events_by_time ON audit.events (occurred_at);

-- Who stores events holds this row until it commits: one sequencer at a time, the others stand by. No index is given twice or
-- left out, and they become visible in their order.
CREATE TABLE audit.sequence (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    next_leaf bigint NOT NULL,
    last_at   timestamptz NOT NULL
) WITH (fillfactor = 10);

INSERT INTO audit.events (leaf_index, sequenced_at, chain, position, event_id, action, actor_type, actor_id, new_state, occurred_at, body)
SELECT row_number() OVER (ORDER BY occurred_at, order_id, position) - 1, now(), order_id, position, event_id, action,
       actor_type, actor_id, new_state, occurred_at, body
FROM audit.events_before;
INSERT INTO audit.sequence (next_leaf, last_at) SELECT count(*), now() FROM audit.events;
DROP TABLE audit.events_before;

ALTER TABLE audit.heads RENAME COLUMN order_id TO chain;
ALTER TABLE audit.broken_events RENAME COLUMN order_id TO chain;

-- The Merkle tree over the leaves: how far it has come, and its hashes as tiles of 256. A tile that grows is replaced by its
-- longer version; anyone can compute them again from the events.
CREATE TABLE audit.tree (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    size      bigint NOT NULL,
    root      bytea NOT NULL
) WITH (fillfactor = 10);
INSERT INTO audit.tree (size, root) VALUES (0, sha256(''));
CREATE TABLE audit.tiles (
    level  smallint NOT NULL,
    index  bigint NOT NULL,
    hashes bytea NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0),
    PRIMARY KEY (level, index)
) WITH (fillfactor = 50);
ALTER TABLE audit.tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;  -- hashes do not compress

-- Signed tree heads, for whoever asks over HTTP. The copies that count are kept elsewhere: a file, Kafka, the archive.
CREATE TABLE audit.checkpoints (
    size      bigint PRIMARY KEY,
    root      bytea NOT NULL,
    note      text NOT NULL,
    signed_at timestamptz NOT NULL
);

-- A range of leaves that was written to the archive. written → verified (read back and compared) → hot rows dropped → dropped
-- after its time, with a signed statement.
CREATE TABLE audit.archives (
    name       text PRIMARY KEY,
    first_leaf bigint NOT NULL UNIQUE,
    end_leaf   bigint NOT NULL CHECK (end_leaf > first_leaf),
    from_at    timestamptz NOT NULL,
    to_at      timestamptz NOT NULL,
    first_occurred_at timestamptz NOT NULL,
    last_occurred_at  timestamptz NOT NULL,
    bytes      bigint NOT NULL,
    root       bytea NOT NULL,  -- RFC 6962 hash of these leaves alone
    manifest   jsonb NOT NULL,
    state      text NOT NULL CHECK (state IN ('written', 'verified', 'cold', 'dropped')),
    written_at timestamptz NOT NULL DEFAULT now(),
    verified_at timestamptz,
    cold_at    timestamptz,
    dropped_at timestamptz,
    statement  text
);

-- Nobody but the owner changes what is written; see 0004_audit.sql.
DO $$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['audit.events', 'audit.checkpoints'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()', v_table);
        EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', v_table);
    END LOOP;
    IF to_regclass('audit.events_default') IS NOT NULL THEN
        CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audit.events_default FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
    END IF;
END $$;

-- The next p_count indexes of leaves and the time they are given at. Held until the transaction ends.
CREATE FUNCTION audit.take_leaves(p_count integer, OUT first_leaf bigint, OUT sequenced_at timestamptz)
LANGUAGE sql SECURITY DEFINER SET search_path = audit, pg_catalog, pg_temp AS $$
    UPDATE audit.sequence SET next_leaf = next_leaf + p_count, last_at = greatest(last_at, clock_timestamp())
    RETURNING next_leaf - p_count, last_at
$$;

-- Partitions by week (Monday, UTC), some ahead; a week whose rows went to the default partition stays there. A hypertable
-- makes its own chunks. Runs as its owner.
DROP FUNCTION audit.maintain_events;
CREATE FUNCTION audit.maintain_events(p_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = audit, pg_catalog, pg_temp AS $$
DECLARE
    v_from timestamptz;
    v_to timestamptz;
    v_name text;
    v_made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('audit.maintain_events'));
    IF to_regclass('audit.events_default') IS NULL THEN
        -- TRUNCATE of a part fires no trigger of the whole.
        FOR v_name IN
            SELECT i.inhrelid::regclass::text FROM pg_inherits i WHERE i.inhparent = 'audit.events'::regclass
                AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = i.inhrelid AND t.tgname = 'no_truncate')
        LOOP
            EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %s
                            FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', v_name);
        END LOOP;
        RETURN 0;
    END IF;
    FOR i IN 0..least(p_ahead, 53) LOOP
        v_from := (date_trunc('week', now() AT TIME ZONE 'UTC') + make_interval(weeks => i)) AT TIME ZONE 'UTC';
        v_to := v_from + INTERVAL '7 days';
        v_name := 'events_' || to_char(v_from AT TIME ZONE 'UTC', 'YYYYMMDD');
        IF to_regclass('audit.' || v_name) IS NULL AND NOT EXISTS (
            SELECT FROM audit.events_default WHERE sequenced_at >= v_from AND sequenced_at < v_to) THEN
            EXECUTE format('CREATE TABLE audit.%I PARTITION OF audit.events FOR VALUES FROM (%L) TO (%L)', v_name, v_from, v_to);
            EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audit.%I
                            FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', v_name);
            v_made := v_made + 1;
        END IF;
    END LOOP;
    RETURN v_made;
END $$;
REVOKE ALL ON FUNCTION audit.take_leaves, audit.maintain_events FROM PUBLIC;
SELECT audit.maintain_events(3);

-- Beside the orders, not beside the ledger: the chains of what is no step of an order, and the keys of what must be erasable.
CREATE TABLE audit_chains (
    chain    text PRIMARY KEY,
    position integer NOT NULL,
    head     text NOT NULL
) WITH (fillfactor = 70);

-- Personal data in the audit trail is encrypted with a key of its customer. A key that was destroyed leaves its row, without
-- itself, so that it can be said why something cannot be read any more.
CREATE TABLE personal_keys (
    key_id       text PRIMARY KEY,
    customer_id  text NOT NULL,
    key          bytea CHECK (length(key) = 64),
    created_at   timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    CHECK ((key IS NULL) = (destroyed_at IS NOT NULL))
);
CREATE INDEX personal_keys_by_customer ON personal_keys (customer_id, created_at);

-- As before, and the customer's first key where this is their first order.
DROP FUNCTION place_order;
CREATE FUNCTION place_order(
    p_customer text, p_key text, p_body_hash text, p_answer bytea, p_new_key_id text, p_new_key bytea,
    p_order jsonb, p_expected integer,
    p_positions integer[], p_event_ids text[], p_audit_ids text[], p_types text[], p_actions text[], p_facts bytea[], p_audits bytea[],
    p_fact_version smallint, p_headers jsonb, p_at timestamptz,
    p_command_ids text[], p_command_types text[], p_command_positions integer[], p_command_bodies bytea[],
    p_command_priorities smallint[], p_command_version smallint,
    p_done_command text, p_take_driver text, p_free_driver text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(p_customer || '/' || p_key, 0)) THEN
        RAISE EXCEPTION 'a request with this key is under way' USING ERRCODE = 'RL004';
    END IF;
    INSERT INTO idempotency_keys (customer_id, key, body_hash, order_id, answer)
    VALUES (p_customer, p_key, p_body_hash, p_order ->> 'order_id', p_answer);
    IF p_new_key_id IS NOT NULL THEN
        INSERT INTO personal_keys (key_id, customer_id, key) VALUES (p_new_key_id, p_customer, p_new_key);
    END IF;
    PERFORM apply_transition(
        p_order, p_expected, p_positions, p_event_ids, p_audit_ids, p_types, p_actions, p_facts, p_audits, p_fact_version,
        p_headers, p_at, p_command_ids, p_command_types, p_command_positions, p_command_bodies, p_command_priorities,
        p_command_version, p_done_command, p_take_driver, p_free_driver);
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_audit_writer') THEN
        GRANT INSERT ON audit.events TO rushline_audit_writer;
        GRANT SELECT ON audit.events, audit.sequence, audit.checkpoints TO rushline_audit_writer;
        GRANT SELECT ON audit.broken_events TO rushline_audit_writer;
        GRANT INSERT ON audit.checkpoints TO rushline_audit_writer;
        GRANT SELECT, UPDATE (size, root) ON audit.tree TO rushline_audit_writer;
        GRANT SELECT, INSERT, UPDATE (hashes) ON audit.tiles TO rushline_audit_writer;
        GRANT SELECT, INSERT ON audit.archives TO rushline_audit_writer;
        GRANT UPDATE (state, verified_at, cold_at, dropped_at, statement) ON audit.archives TO rushline_audit_writer;
        GRANT EXECUTE ON FUNCTION audit.take_leaves, audit.maintain_events TO rushline_audit_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_audit_reader') THEN
        GRANT SELECT ON audit.events, audit.sequence, audit.tree, audit.tiles, audit.checkpoints, audit.archives
            TO rushline_audit_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_app') THEN
        GRANT SELECT, INSERT, UPDATE (position, head) ON audit_chains TO rushline_app;
        GRANT SELECT, INSERT, UPDATE (key, destroyed_at) ON personal_keys TO rushline_app;
    END IF;
END $$;
