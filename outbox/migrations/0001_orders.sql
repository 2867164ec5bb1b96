-- Orders, their events, the inbox, the outbox, and the one function that changes an order.

CREATE TABLE orders (
    order_id          text PRIMARY KEY,
    customer_id       text NOT NULL,
    restaurant_id     text NOT NULL,
    city              text NOT NULL,
    state             text NOT NULL CHECK (state IN (
        'placed', 'payment_processing', 'payment_confirmed', 'restaurant_notified', 'restaurant_accepted',
        'driver_assigned', 'picked_up', 'delivered', 'payment_failed', 'restaurant_rejected', 'cancelled')),
    money             text NOT NULL CHECK (money IN ('none', 'captured', 'part_refunded', 'refunded')),
    position          integer NOT NULL CHECK (position > 0),
    chain_head        text NOT NULL,
    items             jsonb NOT NULL,
    address           jsonb NOT NULL,
    currency          text NOT NULL,
    item_count        integer NOT NULL,
    subtotal          bigint NOT NULL CHECK (subtotal >= 0),
    delivery_fee      bigint NOT NULL CHECK (delivery_fee >= 0),
    total             bigint NOT NULL CHECK (total = subtotal + delivery_fee),
    captured          bigint NOT NULL CHECK (captured >= 0),
    refunded          bigint NOT NULL CHECK (refunded BETWEEN 0 AND captured),
    payment_method_id text NOT NULL,
    payment_intent_id text,
    payment_attempt   integer NOT NULL,
    driver_id         text,
    past_drivers      text[] NOT NULL,
    reason            text,
    pending           jsonb NOT NULL,
    deadline          text,
    deadline_at       timestamptz,
    traceparent       text NOT NULL,
    placed_at         timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    CHECK ((deadline IS NULL) = (deadline_at IS NULL)),
    -- A final order waits for nothing but its own undoing.
    CHECK (state NOT IN ('delivered', 'payment_failed', 'cancelled') OR deadline IS NULL OR deadline = 'stuck')
) WITH (fillfactor = 70);
CREATE INDEX orders_by_customer ON orders (customer_id, placed_at DESC);
CREATE INDEX orders_by_restaurant ON orders (restaurant_id, placed_at DESC);
CREATE INDEX orders_due ON orders (deadline_at) WHERE deadline_at IS NOT NULL;

-- Every step of every order, for SSE, investigations, rebuilt topics. Partitioned by day; old days are dropped whole.
CREATE TABLE order_events (
    order_id    text NOT NULL,
    position    integer NOT NULL,
    event_id    text NOT NULL,
    audit_id    text NOT NULL,
    type        text NOT NULL,
    fact        bytea NOT NULL,
    audit       bytea NOT NULL,
    headers     jsonb NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, position, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE TABLE order_events_default PARTITION OF order_events DEFAULT;

-- Commands that were done, written with their last step.
CREATE TABLE inbox (
    message_id text PRIMARY KEY,
    done_at    timestamptz NOT NULL
);
CREATE INDEX inbox_by_age ON inbox USING brin (done_at);

-- `xact` stands before `id`: defaults are evaluated in this order, so a row's transaction has its number before the row
-- has its own. The relay's low-water mark rests on that (outbox/low_water.py).
CREATE TABLE outbox (
    xact           xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id             bigint GENERATED ALWAYS AS IDENTITY,
    event_id       text NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id   text NOT NULL,
    position       integer,
    type           text NOT NULL,
    schema_version smallint NOT NULL,
    body           bytea NOT NULL,
    headers        jsonb NOT NULL,
    broker         text NOT NULL,
    destination    text NOT NULL,
    priority       smallint NOT NULL,
    occurred_at    timestamptz NOT NULL
) PARTITION BY LIST (broker);
CREATE TABLE outbox_rabbitmq PARTITION OF outbox FOR VALUES IN ('rabbitmq')
    WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE TABLE outbox_kafka PARTITION OF outbox FOR VALUES IN ('kafka')
    WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE UNIQUE INDEX outbox_rabbitmq_id ON outbox_rabbitmq (id);
CREATE UNIQUE INDEX outbox_kafka_id ON outbox_kafka (id);

-- What a broker refused, and later facts of the same order behind it. Never lost, never in the way of others.
CREATE TABLE outbox_set_aside (
    id             bigint PRIMARY KEY,
    event_id       text NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id   text NOT NULL,
    position       integer,
    type           text NOT NULL,
    schema_version smallint NOT NULL,
    body           bytea NOT NULL,
    headers        jsonb NOT NULL,
    broker         text NOT NULL,
    destination    text NOT NULL,
    priority       smallint NOT NULL,
    occurred_at    timestamptz NOT NULL,
    reason         text NOT NULL,
    set_aside_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_set_aside_by_order ON outbox_set_aside (broker, aggregate_id);

-- Who does what only one may do at a time: the relay's lanes, the clock.
CREATE TABLE leases (
    name       text PRIMARY KEY,
    owner      text NOT NULL,
    fence      bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE idempotency_keys (
    customer_id text NOT NULL,
    key         text NOT NULL,
    body_hash   text NOT NULL,
    order_id    text NOT NULL,
    answer      bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys USING brin (created_at);

-- The one door to changing an order. Compares the position; raises RL001 on a lost race, RL002 on a driver who is gone,
-- RL003 on leaving a final state, so that nothing half-done commits. p_expected 0 inserts the order.
CREATE FUNCTION apply_transition(
    p_order jsonb, p_expected integer,
    p_positions integer[], p_event_ids text[], p_audit_ids text[], p_types text[], p_actions text[], p_facts bytea[], p_audits bytea[],
    p_fact_version smallint, p_headers jsonb, p_at timestamptz,
    p_command_ids text[], p_command_types text[], p_command_positions integer[], p_command_bodies bytea[],
    p_command_priorities smallint[], p_command_version smallint,
    p_done_command text, p_take_driver text, p_free_driver text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v orders := jsonb_populate_record(NULL::orders, p_order);
BEGIN
    -- The order first: its row lock and the transaction's number come before any outbox id.
    IF p_expected = 0 THEN
        INSERT INTO orders SELECT v.*;
    ELSE
        UPDATE orders o SET
            restaurant_id = v.restaurant_id, state = v.state, money = v.money, position = v.position,
            chain_head = v.chain_head, items = v.items, item_count = v.item_count, subtotal = v.subtotal,
            delivery_fee = v.delivery_fee, total = v.total, captured = v.captured, refunded = v.refunded,
            payment_intent_id = coalesce(v.payment_intent_id, o.payment_intent_id),
            payment_attempt = greatest(v.payment_attempt, o.payment_attempt),
            driver_id = v.driver_id, past_drivers = v.past_drivers, reason = v.reason, pending = v.pending,
            deadline = v.deadline, deadline_at = v.deadline_at, updated_at = v.updated_at
        WHERE o.order_id = v.order_id AND o.position = p_expected
            AND (o.state = v.state OR o.state NOT IN ('delivered', 'payment_failed', 'cancelled'));
        IF NOT FOUND THEN
            RAISE EXCEPTION 'order % is no longer at position %', v.order_id, p_expected USING ERRCODE = 'RL001';
        END IF;
    END IF;
    IF p_take_driver IS NOT NULL THEN
        UPDATE drivers SET status = 'busy', order_id = v.order_id, reserved_for = NULL, reserved_until = NULL
        WHERE driver_id = p_take_driver AND status = 'available' AND reserved_for = v.order_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'driver % is no longer reserved for %', p_take_driver, v.order_id USING ERRCODE = 'RL002';
        END IF;
    END IF;
    IF p_free_driver IS NOT NULL THEN
        UPDATE drivers SET status = 'available', order_id = NULL
        WHERE driver_id = p_free_driver AND status = 'busy' AND order_id = v.order_id;
    END IF;
    IF p_done_command IS NOT NULL THEN
        INSERT INTO inbox (message_id, done_at) VALUES (p_done_command, p_at);
    END IF;
    INSERT INTO order_events (order_id, position, event_id, audit_id, type, fact, audit, headers, occurred_at)
    SELECT v.order_id, e.position, e.event_id, e.audit_id, e.type, e.fact, e.audit, p_headers, p_at
    FROM unnest(p_positions, p_event_ids, p_audit_ids, p_types, p_facts, p_audits)
        AS e (position, event_id, audit_id, type, fact, audit);
    INSERT INTO outbox (event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers,
                        broker, destination, priority, occurred_at)
    SELECT r.id, 'order', v.order_id, e.position, r.type, p_fact_version, r.body, p_headers, 'kafka', r.topic, 0, p_at
    FROM unnest(p_positions, p_event_ids, p_audit_ids, p_types, p_actions, p_facts, p_audits)
        AS e (position, event_id, audit_id, type, action, fact, audit)
    CROSS JOIN LATERAL (VALUES (e.event_id, e.type, e.fact, 'orders.events'), (e.audit_id, e.action, e.audit, 'audit.events'))
        AS r (id, type, body, topic);
    IF cardinality(p_command_ids) > 0 THEN
        INSERT INTO outbox (event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers,
                            broker, destination, priority, occurred_at)
        SELECT c.id, 'order', v.order_id, c.position, c.type, p_command_version, c.body, p_headers, 'rabbitmq', c.type,
               c.priority, p_at
        FROM unnest(p_command_ids, p_command_types, p_command_positions, p_command_bodies, p_command_priorities)
            AS c (id, type, position, body, priority);
    END IF;
END $$;

-- An order and the answer to the request that placed it, together or not at all. Raises RL004 while another request with
-- this key is under way; the key's unique violation where one has been answered meanwhile.
CREATE FUNCTION place_order(
    p_customer text, p_key text, p_body_hash text, p_answer bytea,
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
    PERFORM apply_transition(
        p_order, p_expected, p_positions, p_event_ids, p_audit_ids, p_types, p_actions, p_facts, p_audits, p_fact_version,
        p_headers, p_at, p_command_ids, p_command_types, p_command_positions, p_command_bodies, p_command_priorities,
        p_command_version, p_done_command, p_take_driver, p_free_driver);
END $$;

-- Partitions of the events by day, some days ahead; days older than p_hot_days are dropped whole. Runs as its owner, so
-- that the clock needs no right to create or drop tables.
CREATE FUNCTION maintain_order_events(p_hot_days integer, p_ahead_days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_day date;
    v_name text;
    v_dropped integer := 0;
BEGIN
    FOR i IN 0..p_ahead_days LOOP
        v_day := (now() AT TIME ZONE 'UTC')::date + i;
        v_name := 'order_events_' || to_char(v_day, 'YYYYMMDD');
        IF to_regclass(v_name) IS NULL AND NOT EXISTS (
            SELECT FROM order_events_default WHERE occurred_at >= v_day::timestamp AT TIME ZONE 'UTC'
                AND occurred_at < (v_day + 1)::timestamp AT TIME ZONE 'UTC') THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF order_events FOR VALUES FROM (%L) TO (%L)', v_name,
                           v_day::timestamp AT TIME ZONE 'UTC', (v_day + 1)::timestamp AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
    FOR v_name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'order_events'::regclass AND c.relname ~ '^order_events_[0-9]{8}$'
            AND to_date(right(c.relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - p_hot_days
    LOOP
        EXECUTE format('DROP TABLE %I', v_name);
        v_dropped := v_dropped + 1;
    END LOOP;
    RETURN v_dropped;
END $$;
SELECT maintain_order_events(36500, 3);
