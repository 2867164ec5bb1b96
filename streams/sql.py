"""Every SQL statement of the streams. `SCHEMA.` is the schema of the group's offsets: see `in_schema`."""

from typing import Final, LiteralString


def in_schema(statement: LiteralString, schema: LiteralString) -> LiteralString:
    """The statement on that schema's tables."""
    return statement.replace("SCHEMA.", schema + ".")


# Partitions that were never read begin at the beginning; then: where each of ours goes on.
BEGIN_AT: Final[LiteralString] = """
INSERT INTO SCHEMA.stream_offsets (group_name, topic, partition, next_offset)
SELECT $1, t.topic, t.partition, 0 FROM unnest($2::text[], $3::integer[]) AS t (topic, partition)
ON CONFLICT DO NOTHING
"""
OFFSETS: Final[LiteralString] = """
SELECT topic, partition, next_offset FROM SCHEMA.stream_offsets WHERE group_name = $1
"""

# The offsets by compare-and-set; how far the batch's orders are; which of them have something held. One snapshot is
# enough: whoever moved an order since has moved its partition's offset too, and then nothing is moved here.
TAKE: Final[LiteralString] = """
WITH moved AS (
    UPDATE SCHEMA.stream_offsets o SET next_offset = n.next
    FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[]) AS n (topic, partition, believed, next)
    WHERE o.group_name = $1 AND o.topic = n.topic AND o.partition = n.partition AND o.next_offset = n.believed
    RETURNING 1)
SELECT (SELECT count(*) FROM moved) AS moved,
    (SELECT jsonb_object_agg(order_id, position) FROM SCHEMA.stream_positions
     WHERE group_name = $1 AND order_id = ANY ($6::text[])) AS positions,
    ARRAY(SELECT DISTINCT order_id FROM SCHEMA.held_facts
          WHERE group_name = $1 AND order_id = ANY ($6::text[]) AND skipped_at IS NULL
              AND (position IS NOT NULL OR wake_at <= clock_timestamp())) AS holding
"""

# What is held of these orders: all that stands in line, and of what has no place in one some that may be tried again.
HELD: Final[LiteralString] = """
WITH held AS NOT MATERIALIZED (
    SELECT topic, partition, kafka_offset, message_key, order_id, position, headers, body, kind, reason, attempts,
           first_failed_at, letter_id, discarded_at IS NOT NULL AS discarded,
           coalesce(wake_at <= clock_timestamp(), false) AS woken
    FROM SCHEMA.held_facts WHERE group_name = $1 AND order_id = ANY ($2::text[]) AND skipped_at IS NULL)
(SELECT * FROM held WHERE position IS NOT NULL ORDER BY position, kafka_offset)
UNION ALL (SELECT * FROM held WHERE position IS NULL AND woken LIMIT 200)
"""

# Orders with something held that may be tried again, in these partitions.
DUE: Final[LiteralString] = """
SELECT DISTINCT topic, partition, order_id FROM SCHEMA.held_facts
WHERE group_name = $1 AND wake_at <= clock_timestamp() AND skipped_at IS NULL
    AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::integer[])) LIMIT $4
"""

# How far each order is now.
MOVE_POSITIONS: Final[LiteralString] = """
INSERT INTO SCHEMA.stream_positions (group_name, order_id, position)
SELECT $1, n.order_id, n.position FROM unnest($2::text[], $3::integer[]) AS n (order_id, position)
ON CONFLICT (group_name, order_id) DO UPDATE SET position = excluded.position
"""

# Hold facts back, or hold them again after another try: due after some seconds where those are given, else parked or waiting
# for what comes before. What an operator skipped stays skipped; what was written comes back.
HOLD: Final[LiteralString] = """
INSERT INTO SCHEMA.held_facts AS h
    (group_name, topic, partition, kafka_offset, message_key, order_id, position, headers, body, kind, reason, attempts,
     first_failed_at, wake_at, parked_at, letter_id, trail)
SELECT $1, n.topic, n.partition, n.kafka_offset, n.message_key, n.order_id, n.position, n.headers, n.body, n.kind, n.reason,
       n.attempts, n.first_failed_at, clock_timestamp() + make_interval(secs => n.wait_s), n.parked_at, n.letter_id, n.trail
FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::bytea[], $6::text[], $7::integer[], $8::jsonb[], $9::bytea[],
            $10::text[], $11::text[], $12::integer[], $13::timestamptz[], $14::double precision[], $15::timestamptz[],
            $16::text[], $17::jsonb[])
    AS n (topic, partition, kafka_offset, message_key, order_id, position, headers, body, kind, reason, attempts,
          first_failed_at, wait_s, parked_at, letter_id, trail)
ON CONFLICT (group_name, topic, partition, kafka_offset) DO UPDATE
    SET position = excluded.position, kind = excluded.kind, reason = excluded.reason, wake_at = excluded.wake_at, attempts = excluded.attempts,
        first_failed_at = excluded.first_failed_at, parked_at = excluded.parked_at, reported_at = NULL,
        letter_id = excluded.letter_id, trail = excluded.trail
    WHERE h.skipped_at IS NULL
RETURNING topic, partition, kafka_offset
"""

# Facts that operators discarded, and that were passed in their turn: they stay as evidence while Kafka has them.
STEP_OVER: Final[LiteralString] = """
UPDATE SCHEMA.held_facts h SET skipped_at = clock_timestamp(), wake_at = NULL
FROM unnest($2::text[], $3::integer[], $4::bigint[]) AS n (topic, partition, kafka_offset)
WHERE h.group_name = $1 AND h.topic = n.topic AND h.partition = n.partition AND h.kafka_offset = n.kafka_offset
"""

# The same whose turn has not come: nothing wakes them but what comes before.
REST: Final[LiteralString] = """
UPDATE SCHEMA.held_facts h SET wake_at = NULL
FROM unnest($2::text[], $3::integer[], $4::bigint[]) AS n (topic, partition, kafka_offset)
WHERE h.group_name = $1 AND h.topic = n.topic AND h.partition = n.partition AND h.kafka_offset = n.kafka_offset
"""

# Letters that came to their end, where they cannot be settled at once.
SETTLE_LATER: Final[LiteralString] = """
INSERT INTO audit.settled_letters (letter_id, group_name, outcome)
SELECT letter_id, $1, $3 FROM unnest($2::text[]) AS letter_id
ON CONFLICT (letter_id) DO UPDATE SET outcome = excluded.outcome, settled_at = now()
"""

# What is about to be looked into, and may kill its stream. Starts that lie far apart, and those that this process outlived,
# count no more.
BEGIN_STARTED: Final[LiteralString] = """
INSERT INTO SCHEMA.started_facts AS s (group_name, place, times, started_at)
SELECT $1, place, 1, $4 FROM unnest($2::text[]) AS place ORDER BY place
ON CONFLICT (group_name, place) DO UPDATE SET started_at = excluded.started_at,
    times = CASE WHEN s.place = ANY ($3::text[]) OR s.started_at < $4::timestamptz - $5::interval THEN 1 ELSE s.times + 1 END
RETURNING times
"""

# It came to an end of some kind, and so did what was begun long ago.
END_STARTED: Final[LiteralString] = """
DELETE FROM SCHEMA.started_facts WHERE group_name = $1 AND (place = ANY ($2::text[]) OR started_at < $3)
"""

# Held facts that took effect, or whose position took effect without them.
FREE: Final[LiteralString] = """
DELETE FROM SCHEMA.held_facts h USING unnest($2::text[], $3::integer[], $4::bigint[]) AS n (topic, partition, kafka_offset)
WHERE h.group_name = $1 AND h.topic = n.topic AND h.partition = n.partition AND h.kafka_offset = n.kafka_offset
"""

# An operator puts a group somewhere else.
SEEK: Final[LiteralString] = """
INSERT INTO SCHEMA.stream_offsets (group_name, topic, partition, next_offset)
SELECT $1, $2, n.partition, n.next_offset FROM unnest($3::integer[], $4::bigint[]) AS n (partition, next_offset)
ON CONFLICT (group_name, topic, partition) DO UPDATE SET next_offset = excluded.next_offset
"""
FORGET_POSITIONS: Final[LiteralString] = "DELETE FROM SCHEMA.stream_positions WHERE group_name = $1"
FORGET_HELD: Final[LiteralString] = "DELETE FROM SCHEMA.held_facts WHERE group_name = $1"

# An operator lets an order go on without what it waits for. The facts stay, marked, and their letters come back; the rest is
# tried again.
SKIP_HELD: Final[LiteralString] = """
UPDATE SCHEMA.held_facts SET skipped_at = CASE WHEN s.skip THEN clock_timestamp() END,
    wake_at = CASE WHEN s.skip THEN NULL ELSE clock_timestamp() END
FROM (SELECT topic, partition, kafka_offset, coalesce(position <= $3, $4) AS skip FROM SCHEMA.held_facts
      WHERE group_name = $1 AND order_id = $2 AND skipped_at IS NULL) s
WHERE held_facts.group_name = $1 AND (held_facts.topic, held_facts.partition, held_facts.kafka_offset)
    = (s.topic, s.partition, s.kafka_offset)
RETURNING s.skip, letter_id
"""

# All that a group holds is tried again, its attempts anew.
WAKE_ALL: Final[LiteralString] = """
UPDATE SCHEMA.held_facts SET wake_at = clock_timestamp(), attempts = 0, first_failed_at = NULL, parked_at = NULL
WHERE group_name = $1 AND skipped_at IS NULL
"""

# How far an order is, and the positions of what its group holds of it.
POSITION: Final[LiteralString] = "SELECT position FROM SCHEMA.stream_positions WHERE group_name = $1 AND order_id = $2"
WAITING: Final[LiteralString] = """
SELECT position FROM SCHEMA.held_facts WHERE group_name = $1 AND order_id = $2 AND skipped_at IS NULL ORDER BY position
"""

# Fraud: orders to look back on.
REMEMBER_ORDERS: Final[LiteralString] = """
INSERT INTO fraud_orders (order_id, customer_id, payment_method_id, latitude, longitude, currency, total, placed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::double precision[], $5::double precision[], $6::text[],
                     $7::bigint[], $8::timestamptz[])
ON CONFLICT DO NOTHING
"""
REMEMBER_COMPLETED: Final[LiteralString] = """
UPDATE fraud_orders o SET completed_at = n.at FROM unnest($1::text[], $2::timestamptz[]) AS n (order_id, at)
WHERE o.order_id = n.order_id AND o.completed_at IS NULL
"""

# What the rules look at, for each of these orders, as it was when the order was placed.
FRAUD_HISTORY: Final[LiteralString] = """
SELECT o.order_id, recent.orders AS recent_orders, past.orders AS past_orders, past.mean AS past_mean,
       before.latitude, before.longitude, before.placed_at
FROM unnest($1::text[]) AS n (order_id) JOIN fraud_orders o USING (order_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS orders FROM fraud_orders r WHERE r.payment_method_id = o.payment_method_id
        AND r.placed_at > o.placed_at - $2::interval AND (r.placed_at, r.order_id) <= (o.placed_at, o.order_id)) recent
CROSS JOIN LATERAL (
    SELECT count(*) AS orders, coalesce(avg(p.total), 0)::double precision AS mean FROM (
        SELECT total FROM fraud_orders c WHERE c.customer_id = o.customer_id AND c.currency = o.currency
            AND c.completed_at <= o.placed_at AND c.placed_at < o.placed_at ORDER BY c.placed_at DESC LIMIT 50) p) past
LEFT JOIN LATERAL (
    SELECT latitude, longitude, placed_at FROM fraud_orders b WHERE b.customer_id = o.customer_id
        AND (b.placed_at, b.order_id) < (o.placed_at, o.order_id) ORDER BY b.placed_at DESC, b.order_id DESC LIMIT 1) before
    ON true
"""

# At most one flag per order; what comes back is new.
FLAG: Final[LiteralString] = """
INSERT INTO fraud_flags (order_id, rules, flagged_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING order_id
"""

# Analytics: when orders were placed, those of this batch and those before.
PLACED_AT: Final[LiteralString] = """
WITH new AS (
    INSERT INTO analytics_orders (order_id, placed_at) SELECT * FROM unnest($1::text[], $2::timestamptz[])
    ON CONFLICT DO NOTHING)
SELECT order_id, placed_at FROM analytics_orders WHERE order_id = ANY ($3::text[])
"""
ADD_MINUTES: Final[LiteralString] = """
INSERT INTO analytics_minutes AS m (minute, city, restaurant_id, currency, placed, completed, cancelled, failed, rejected,
    disputed, captured, refunded, paid_count, paid_ms, accepted_count, accepted_ms, driver_count, driver_ms,
    picked_up_count, picked_up_ms, delivered_count, delivered_ms)
SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],
    $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[],
    $22::bigint[])
ON CONFLICT (minute, city, restaurant_id, currency) DO UPDATE SET
    placed = m.placed + excluded.placed, completed = m.completed + excluded.completed,
    cancelled = m.cancelled + excluded.cancelled, failed = m.failed + excluded.failed,
    rejected = m.rejected + excluded.rejected, disputed = m.disputed + excluded.disputed, captured = m.captured + excluded.captured,
    refunded = m.refunded + excluded.refunded,
    paid_count = m.paid_count + excluded.paid_count, paid_ms = m.paid_ms + excluded.paid_ms,
    accepted_count = m.accepted_count + excluded.accepted_count, accepted_ms = m.accepted_ms + excluded.accepted_ms,
    driver_count = m.driver_count + excluded.driver_count, driver_ms = m.driver_ms + excluded.driver_ms,
    picked_up_count = m.picked_up_count + excluded.picked_up_count, picked_up_ms = m.picked_up_ms + excluded.picked_up_ms,
    delivered_count = m.delivered_count + excluded.delivered_count, delivered_ms = m.delivered_ms + excluded.delivered_ms
"""

# Support: what the facts of a batch say about each order, over what is known.
TELL_SUPPORT: Final[LiteralString] = """
INSERT INTO support_orders AS s (order_id, customer_id, restaurant_id, driver_id, city, state, reason, currency, total,
    captured, refunded, position, last_fact, flagged, disputed, placed_at, paid_at, notified_at, accepted_at, rejected_at,
    driver_at, picked_up_at, delivered_at, ended_at, refunded_at, updated_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::integer[], $13::text[], $14::boolean[], $15::boolean[],
    $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::timestamptz[], $20::timestamptz[],
    $21::timestamptz[], $22::timestamptz[], $23::timestamptz[], $24::timestamptz[], $25::timestamptz[], $26::timestamptz[])
ON CONFLICT (order_id) DO UPDATE SET
    restaurant_id = excluded.restaurant_id, driver_id = excluded.driver_id, state = excluded.state,
    reason = coalesce(excluded.reason, s.reason), total = excluded.total,
    captured = s.captured + excluded.captured, refunded = greatest(s.refunded, excluded.refunded),
    position = excluded.position, last_fact = excluded.last_fact,
    flagged = s.flagged OR excluded.flagged, disputed = s.disputed OR excluded.disputed,
    placed_at = coalesce(s.placed_at, excluded.placed_at), paid_at = coalesce(excluded.paid_at, s.paid_at),
    notified_at = coalesce(excluded.notified_at, s.notified_at),
    accepted_at = coalesce(excluded.accepted_at, s.accepted_at),
    rejected_at = coalesce(excluded.rejected_at, s.rejected_at), driver_at = coalesce(excluded.driver_at, s.driver_at),
    picked_up_at = coalesce(excluded.picked_up_at, s.picked_up_at),
    delivered_at = coalesce(excluded.delivered_at, s.delivered_at), ended_at = coalesce(excluded.ended_at, s.ended_at),
    refunded_at = coalesce(excluded.refunded_at, s.refunded_at), updated_at = excluded.updated_at
"""

# Read models that can be built again, by group.
EMPTY: Final[dict[str, LiteralString]] = {
    "analytics": "TRUNCATE analytics_minutes, analytics_orders",
    "support": "TRUNCATE support_orders",
}
