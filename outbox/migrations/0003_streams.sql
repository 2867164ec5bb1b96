-- What the streams keep: how far each group has come, what it holds back, and each group's own tables.

-- The truth about offsets. A group moves them by compare-and-set in the transaction of its effects.
CREATE TABLE stream_offsets (
    group_name  text NOT NULL,
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (group_name, topic, partition)
) WITH (fillfactor = 50);

-- The last position of an order that took effect in a group.
CREATE TABLE stream_positions (
    group_name text NOT NULL,
    order_id   text NOT NULL,
    position   integer NOT NULL CHECK (position >= 0),
    PRIMARY KEY (group_name, order_id)
) WITH (fillfactor = 70);

-- Facts that could not take effect yet: too early (`gap`), unreadable (`invalid-message`), or failing (`failed`).
-- `position` is null where it could not be read or the fact has none. `wake_at`: from when on it is tried again.
-- `skipped_at`: an operator decided that it will never take effect.
CREATE TABLE held_facts (
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
CREATE INDEX held_facts_by_order ON held_facts (group_name, order_id, position);
CREATE INDEX held_facts_to_wake ON held_facts (group_name, wake_at) WHERE wake_at IS NOT NULL;

-- Fraud: what the rules look back on, and which orders they hit.
CREATE TABLE fraud_orders (
    order_id          text PRIMARY KEY,
    customer_id       text NOT NULL,
    payment_method_id text NOT NULL,
    latitude          double precision NOT NULL,
    longitude         double precision NOT NULL,
    currency          text NOT NULL,
    total             bigint NOT NULL,
    placed_at         timestamptz NOT NULL,
    completed_at      timestamptz
) WITH (fillfactor = 80);
CREATE INDEX fraud_orders_by_customer ON fraud_orders (customer_id, placed_at);
CREATE INDEX fraud_orders_by_method ON fraud_orders (payment_method_id, placed_at);

CREATE TABLE fraud_flags (
    order_id   text PRIMARY KEY,
    rules      text[] NOT NULL,
    flagged_at timestamptz NOT NULL
);

-- Analytics: one row per minute, city, restaurant and currency. Amounts in minor units, times summed in milliseconds.
CREATE TABLE analytics_minutes (
    minute           timestamptz NOT NULL,
    city             text NOT NULL,
    restaurant_id    text NOT NULL,
    currency         text NOT NULL,
    placed           bigint NOT NULL,
    completed        bigint NOT NULL,
    cancelled        bigint NOT NULL,
    failed           bigint NOT NULL,
    rejected         bigint NOT NULL,
    captured         bigint NOT NULL,
    refunded         bigint NOT NULL,
    paid_count       bigint NOT NULL,
    paid_ms          bigint NOT NULL,
    accepted_count   bigint NOT NULL,
    accepted_ms      bigint NOT NULL,
    driver_count     bigint NOT NULL,
    driver_ms        bigint NOT NULL,
    picked_up_count  bigint NOT NULL,
    picked_up_ms     bigint NOT NULL,
    delivered_count  bigint NOT NULL,
    delivered_ms     bigint NOT NULL,
    PRIMARY KEY (minute, city, restaurant_id, currency)
) WITH (fillfactor = 60);
CREATE INDEX analytics_minutes_by_restaurant ON analytics_minutes (restaurant_id, minute);

-- When each order was placed: what the times to each step are counted from.
CREATE TABLE analytics_orders (
    order_id  text PRIMARY KEY,
    placed_at timestamptz NOT NULL
);

-- Support: one row per order, as the facts tell it. What support searches.
CREATE TABLE support_orders (
    order_id          text PRIMARY KEY,
    customer_id       text NOT NULL,
    restaurant_id     text NOT NULL,
    driver_id         text,
    city              text NOT NULL,
    state             text NOT NULL,
    reason            text,
    currency          text NOT NULL,
    total             bigint NOT NULL,
    captured          bigint NOT NULL,
    refunded          bigint NOT NULL,
    position          integer NOT NULL,
    last_fact         text NOT NULL,
    flagged           boolean NOT NULL,
    disputed          boolean NOT NULL,
    placed_at         timestamptz,
    paid_at           timestamptz,
    notified_at       timestamptz,
    accepted_at       timestamptz,
    rejected_at       timestamptz,
    driver_at         timestamptz,
    picked_up_at      timestamptz,
    delivered_at      timestamptz,
    ended_at          timestamptz,
    refunded_at       timestamptz,
    updated_at        timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX support_orders_by_customer ON support_orders (customer_id, placed_at DESC);
CREATE INDEX support_orders_by_restaurant ON support_orders (restaurant_id, placed_at DESC);
CREATE INDEX support_orders_by_driver ON support_orders (driver_id, placed_at DESC) WHERE driver_id IS NOT NULL;
CREATE INDEX support_orders_by_city ON support_orders (city, placed_at DESC);
CREATE INDEX support_orders_open ON support_orders (placed_at)
    WHERE ended_at IS NULL;
CREATE INDEX support_orders_by_time ON support_orders USING brin (placed_at);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON stream_offsets, stream_positions, held_facts TO rushline_app;
        GRANT SELECT, INSERT, UPDATE ON fraud_orders, fraud_flags TO rushline_app;
        -- Read models can be built again from the facts: `rushline stream replay --rebuild`.
        GRANT SELECT, INSERT, UPDATE, TRUNCATE ON analytics_minutes, analytics_orders, support_orders TO rushline_app;
    END IF;
END $$;
