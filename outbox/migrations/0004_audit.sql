-- The audit ledger: a schema of its own, so that it can live on a server of its own. Its stream keeps its offsets here.

CREATE SCHEMA IF NOT EXISTS audit;

CREATE TABLE audit.events (
    order_id    text NOT NULL,
    position    integer NOT NULL,
    event_id    text NOT NULL,
    action      text NOT NULL,
    actor_type  text NOT NULL,
    actor_id    text NOT NULL,
    new_state   text,
    occurred_at timestamptz NOT NULL,
    prev_hash   bytea NOT NULL,
    hash        bytea NOT NULL,
    body        bytea NOT NULL,  -- the canonical event, as it was published
    PRIMARY KEY (order_id, position, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX events_by_actor ON audit.events (actor_type, actor_id, occurred_at);
CREATE INDEX events_by_action ON audit.events (action, occurred_at);
CREATE INDEX events_by_time ON audit.events USING brin (occurred_at);

-- The last event of each order: what the next one must link to. Guards against a repeated position, which a partitioned
-- table's key cannot. `broken_at`: the first position at which the order's record breaks.
CREATE TABLE audit.heads (
    order_id  text PRIMARY KEY,
    position  integer NOT NULL,
    hash      bytea NOT NULL,
    broken_at integer
) WITH (fillfactor = 70);

-- Events that do not fit their order's chain: kept as they came, never in the ledger, never in the way of others.
CREATE TABLE audit.broken_events (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id  text NOT NULL,
    position  integer NOT NULL,
    reason    text NOT NULL,
    body      bytea NOT NULL,
    digest    bytea NOT NULL GENERATED ALWAYS AS (sha256(body)) STORED,
    broken_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (order_id, position, digest)
);

-- The same three tables as in 0003_streams.sql: the audit stream's offsets and rows are one transaction.
CREATE TABLE audit.stream_offsets (
    group_name  text NOT NULL,
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (group_name, topic, partition)
) WITH (fillfactor = 50);
CREATE TABLE audit.stream_positions (
    group_name text NOT NULL,
    order_id   text NOT NULL,
    position   integer NOT NULL CHECK (position >= 0),
    PRIMARY KEY (group_name, order_id)
) WITH (fillfactor = 70);
CREATE TABLE audit.held_facts (
    group_name   text NOT NULL,
    order_id     text NOT NULL,
    position     integer,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    kafka_offset bigint NOT NULL,
    headers      jsonb NOT NULL,
    body         bytea NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('gap', 'invalid-message', 'failed')),
    reason       text NOT NULL,
    attempts     integer NOT NULL DEFAULT 1,
    held_at      timestamptz NOT NULL DEFAULT now(),
    wake_at      timestamptz,
    skipped_at   timestamptz,
    PRIMARY KEY (group_name, topic, partition, kafka_offset)
);
CREATE INDEX held_facts_by_order ON audit.held_facts (group_name, order_id, position);
CREATE INDEX held_facts_to_wake ON audit.held_facts (group_name, wake_at) WHERE wake_at IS NOT NULL;

-- Nobody but the owner changes what is written. The owner who does is found by the chain, not by a trigger.
CREATE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF TG_LEVEL = 'STATEMENT' THEN
        RETURN NULL;
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit.events
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audit.events
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit.broken_events
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audit.broken_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();

-- Partitions by month, some ahead; a month whose rows went to the default partition stays there. Runs as its owner.
CREATE TABLE audit.events_default PARTITION OF audit.events DEFAULT;
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audit.events_default
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE FUNCTION audit.maintain_events(p_ahead_months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = audit, pg_catalog, pg_temp AS $$
DECLARE
    v_from timestamptz;
    v_to timestamptz;
    v_name text;
    v_made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('audit.maintain_events'));
    FOR i IN 0..least(p_ahead_months, 24) LOOP
        v_from := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i)) AT TIME ZONE 'UTC';
        v_to := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i + 1)) AT TIME ZONE 'UTC';
        v_name := 'events_' || to_char(v_from AT TIME ZONE 'UTC', 'YYYYMM');
        IF to_regclass('audit.' || v_name) IS NULL AND NOT EXISTS (
            SELECT FROM audit.events_default WHERE occurred_at >= v_from AND occurred_at < v_to) THEN
            EXECUTE format('CREATE TABLE audit.%I PARTITION OF audit.events FOR VALUES FROM (%L) TO (%L)', v_name, v_from, v_to);
            EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audit.%I
                            FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', v_name);
            v_made := v_made + 1;
        END IF;
    END LOOP;
    RETURN v_made;
END $$;
REVOKE ALL ON FUNCTION audit.maintain_events FROM PUBLIC;
SELECT audit.maintain_events(3);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_audit_writer') THEN
        GRANT USAGE ON SCHEMA audit TO rushline_audit_writer;
        GRANT INSERT ON audit.events, audit.broken_events TO rushline_audit_writer;
        GRANT SELECT (order_id, position, occurred_at, body) ON audit.events TO rushline_audit_writer;
        GRANT SELECT (order_id, position, digest) ON audit.broken_events TO rushline_audit_writer;
        GRANT SELECT, INSERT, UPDATE ON audit.heads TO rushline_audit_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE ON audit.stream_offsets, audit.stream_positions, audit.held_facts
            TO rushline_audit_writer;
        GRANT EXECUTE ON FUNCTION audit.maintain_events TO rushline_audit_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_audit_reader') THEN
        GRANT USAGE ON SCHEMA audit TO rushline_audit_reader;
        GRANT SELECT ON audit.events, audit.heads, audit.broken_events, audit.stream_offsets, audit.stream_positions,
            audit.held_facts TO rushline_audit_reader;
    END IF;
END $$;
