"""Every SQL statement on orders, the inbox and the outbox."""

from typing import Final, LiteralString

# An order by its id, and whether this command has been done.
LOAD: Final[LiteralString] = """
SELECT to_jsonb(o)::text AS order_row, EXISTS (SELECT FROM inbox WHERE message_id = $2) AS done FROM orders o WHERE order_id = $1
"""

# The one door: see migrations/0001_orders.sql.
APPLY: Final[LiteralString] = """
SELECT apply_transition($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
"""

# The same for an order's first change, together with the answer to the request that placed it.
PLACE: Final[LiteralString] = """
SELECT place_order($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
                   $25, $26, $27)
"""

# A command is done without a change of the order: remember it, and stop watching it.
FINISH: Final[LiteralString] = """
WITH done AS (INSERT INTO inbox (message_id, done_at) VALUES ($2, $3) ON CONFLICT DO NOTHING)
UPDATE orders SET pending = pending - $2,
    deadline = CASE WHEN pending - $2 = '{}' AND deadline = 'stuck' THEN NULL ELSE deadline END,
    deadline_at = CASE WHEN pending - $2 = '{}' AND deadline = 'stuck' THEN NULL ELSE deadline_at END
WHERE order_id = $1 AND pending ? $2
"""

# What a half-done command must know when it is entered again. Moves no position.
REMEMBER_PAYMENT: Final[LiteralString] = """
UPDATE orders SET payment_intent_id = coalesce(payment_intent_id, $2), payment_attempt = greatest(payment_attempt, $3)
WHERE order_id = $1
"""

# Restaurants of a city, but for some, that have everything by name, nearest to a place first; or the one that is wanted.
ALTERNATIVES: Final[LiteralString] = """
SELECT r.restaurant_id, r.name, r.time_zone, r.hours, r.currency, r.delivery_fee, jsonb_agg(m) AS menu
FROM restaurants r JOIN menu_items m ON m.restaurant_id = r.restaurant_id AND m.available AND m.name = ANY ($3::text[])
WHERE r.city = $1 AND r.restaurant_id <> ALL ($2::text[]) AND r.currency = $4 AND ($5::text IS NULL OR r.restaurant_id = $5)
GROUP BY r.restaurant_id HAVING count(DISTINCT m.name) = cardinality($3::text[])
ORDER BY point(r.longitude, r.latitude) <-> point($6, $7), r.restaurant_id LIMIT 50
"""

# Messages that are no step of an order: stream commands, customers' messages, locations.
ENQUEUE: Final[LiteralString] = """
INSERT INTO outbox (event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers, broker,
                    destination, priority, occurred_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::smallint[], $7::bytea[], $8::jsonb[],
                     $9::text[], $10::text[], $11::smallint[], $12::timestamptz[])
"""

# Commands that no order waits for.
WATCH: Final[LiteralString] = """
INSERT INTO watched_commands (event_id, aggregate_id, position, type, schema_version, body, headers, destination, priority,
                              occurred_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::smallint[], $6::bytea[], $7::jsonb[], $8::text[],
                     $9::smallint[], $10::timestamptz[])
ON CONFLICT DO NOTHING
"""

# Of those that were issued before a time: what is done, what is an operator's, and what is older than the inbox remembers.
WATCHED_NO_MORE: Final[LiteralString] = """
DELETE FROM watched_commands WHERE event_id IN (
    SELECT event_id FROM watched_commands w WHERE issued_at < $1 AND (first_at < $2
        OR EXISTS (SELECT FROM inbox i WHERE i.message_id = w.event_id)
        OR EXISTS (SELECT FROM dead_letters l WHERE l.message_id = w.event_id))
    ORDER BY issued_at LIMIT $3)
"""

# The others; their wait begins anew.
WATCHED_DUE: Final[LiteralString] = """
UPDATE watched_commands w SET issued_at = $1 WHERE event_id IN (
    SELECT event_id FROM watched_commands WHERE issued_at < $2 ORDER BY issued_at LIMIT $3 FOR UPDATE SKIP LOCKED)
    AND NOT EXISTS (SELECT FROM inbox i WHERE i.message_id = w.event_id)
    AND NOT EXISTS (SELECT FROM dead_letters l WHERE l.message_id = w.event_id)
RETURNING event_id, aggregate_id, position, type, schema_version, body, headers, destination, priority, occurred_at
"""

# Restarts the wait of orders that are due and says which; one clock at a time, but two would do no harm. A deadline that was
# set by a process from before there was `deadline_position` counts from where its order is.
DUE: Final[LiteralString] = """
UPDATE orders SET deadline_at = $1::timestamptz + $2::interval WHERE order_id IN (
    SELECT order_id FROM orders WHERE deadline_at <= $1 ORDER BY deadline_at LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING order_id, deadline, coalesce(deadline_position, position) AS deadline_position, pending, traceparent
"""

# A lease, taken or renewed: the row comes back to whoever holds it now.
TAKE_LEASE: Final[LiteralString] = """
INSERT INTO leases AS l (name, owner, fence, expires_at) VALUES ($1, $2, 1, clock_timestamp() + $3::interval)
ON CONFLICT (name) DO UPDATE SET owner = $2, expires_at = clock_timestamp() + $3::interval,
    fence = l.fence + CASE WHEN l.owner = $2 THEN 0 ELSE 1 END
WHERE l.owner = $2 OR l.expires_at < clock_timestamp()
RETURNING fence
"""

# A lease given back, so that a standby need not wait for its end.
DROP_LEASE: Final[LiteralString] = "UPDATE leases SET expires_at = '-infinity' WHERE name = $1 AND owner = $2"

# What remains of a lane above its low-water mark, oldest first.
NEXT_ROWS: Final[LiteralString] = """
SELECT id, event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers, broker, destination,
       priority, occurred_at
FROM outbox WHERE broker = $1 AND id > $2 ORDER BY id LIMIT $3
"""

# How far ids and transactions have come: see low_water.py. The sequence is read first, then this statement takes a
# transaction number. Not the snapshot's xmax: that follows the newest *ended* transaction, and running ones may be above it.
HORIZON: Final[LiteralString] = """
WITH last AS MATERIALIZED (SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'id')), 0) AS id)
SELECT id, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest_running,
       pg_current_xact_id()::text::bigint AS next_transaction FROM last
"""

# Rows whose publishing was confirmed.
REMOVE: Final[LiteralString] = "DELETE FROM outbox WHERE broker = $1 AND id = ANY ($2::bigint[])"

# Rows that a broker refused, out of the way and not lost.
SET_ASIDE: Final[LiteralString] = """
WITH gone AS (
    DELETE FROM outbox WHERE broker = $1 AND id = ANY ($2::bigint[]) RETURNING *)
INSERT INTO outbox_set_aside (id, event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers,
                              broker, destination, priority, occurred_at, reason)
SELECT g.id, event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers, broker, destination,
       priority, occurred_at, why.reason
FROM gone g JOIN unnest($2::bigint[], $3::text[]) AS why (id, reason) USING (id)
ON CONFLICT (id) DO NOTHING
"""

# Orders that have something set aside on a lane: their later facts wait behind it.
HELD_BACK: Final[LiteralString] = "SELECT DISTINCT aggregate_id, destination FROM outbox_set_aside WHERE broker = $1"

# Depth and oldest age in seconds, per lane.
STATUS: Final[LiteralString] = """
SELECT lane.broker, count(o.id) AS depth,
       coalesce(extract(epoch FROM clock_timestamp() - min(o.occurred_at)), 0)::double precision AS oldest_s,
       (SELECT count(*) FROM outbox_set_aside s WHERE s.broker = lane.broker) AS set_aside
FROM (VALUES ('rabbitmq'), ('kafka')) AS lane (broker) LEFT JOIN outbox o USING (broker)
GROUP BY lane.broker ORDER BY lane.broker DESC
"""

# Partitions of the events: days ahead made, days too old dropped.
MAINTAIN: Final[LiteralString] = "SELECT maintain_order_events($1, 3)"

# A batch of inbox and idempotency rows that nobody can ask for any more.
FORGET_INBOX: Final[LiteralString] = """
DELETE FROM inbox WHERE message_id IN (SELECT message_id FROM inbox WHERE done_at < $1 LIMIT $2)
"""
FORGET_KEYS: Final[LiteralString] = """
DELETE FROM idempotency_keys WHERE (customer_id, key) IN (
    SELECT customer_id, key FROM idempotency_keys WHERE created_at < $1 LIMIT $2)
"""
