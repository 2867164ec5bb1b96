"""What the demonstration asks the database, once all is quiet, and while it waits for that."""

from typing import Final, LiteralString

# Every order placed since the demonstration began.
ORDERS: Final[LiteralString] = """
SELECT order_id, customer_id, restaurant_id, state, money, position, captured, refunded, total, driver_id, reason, pending, deadline, placed_at
FROM orders WHERE placed_at >= $1
"""

# The positions that each order's log holds.
EVENTS: Final[LiteralString] = """
SELECT order_id, count(*) AS events, min(position) AS first, max(position) AS last,
       count(DISTINCT position) AS distinct_positions
FROM order_events WHERE order_id = ANY ($1::text[]) GROUP BY order_id
"""

# The audit events of these orders as they were written, in order.
AUDITS: Final[LiteralString] = """
SELECT order_id, audit FROM order_events WHERE order_id = ANY ($1::text[]) ORDER BY order_id, position
"""

# How far each group has come with these orders.
POSITIONS: Final[LiteralString] = """
SELECT group_name, order_id, position FROM stream_positions WHERE order_id = ANY ($1::text[])
"""

# Facts that a group holds and nobody has decided about.
HELD: Final[LiteralString] = "SELECT group_name, order_id, kind FROM held_facts WHERE skipped_at IS NULL AND held_at >= $1"

# What analytics has counted since the demonstration began.
ANALYTICS: Final[LiteralString] = """
SELECT coalesce(sum(placed), 0)::bigint AS placed, coalesce(sum(completed), 0)::bigint AS completed,
       coalesce(sum(captured), 0)::bigint AS captured, coalesce(sum(refunded), 0)::bigint AS refunded FROM analytics_minutes
"""

# What support's read model says of these orders.
SUPPORT: Final[LiteralString] = (
    "SELECT order_id, state, captured, refunded FROM support_orders WHERE order_id = ANY ($1::text[])"
)

# The ledger's copy of these orders.
LEDGER: Final[LiteralString] = """
SELECT chain AS order_id, count(*) AS events, max(position) AS last FROM audit.events WHERE chain = ANY ($1::text[]) GROUP BY chain
"""

# Every letter that was written since the demonstration began, and whether its message was done.
LETTERS: Final[LiteralString] = """
SELECT l.letter_id, l.source, l.message_id, l.consumer, l.failure_type, l.reason, l.state, l.resolution, l.resolved_by,
       EXISTS (SELECT FROM inbox i WHERE i.message_id = l.message_id) AS done
FROM dead_letters l WHERE l.parked_at >= $1 ORDER BY l.parked_at
"""

# What was alarmed since the demonstration began, and for how long.
ALERTS: Final[LiteralString] = """
SELECT kind, subject, extract(epoch FROM coalesce(cleared_at, clock_timestamp()) - raised_at)::double precision AS lasted_s,
       cleared_at IS NOT NULL AS over
FROM alerts WHERE last_at >= $1 ORDER BY raised_at
"""

# Drivers who carry an order that has ended.
STRANDED: Final[LiteralString] = """
SELECT d.driver_id FROM drivers d JOIN orders o USING (order_id)
WHERE o.state IN ('delivered', 'payment_failed', 'cancelled') AND o.placed_at >= $1
"""

# What is still to be done: orders under way, commands not done, rows not published.
UNFINISHED: Final[LiteralString] = """
SELECT (SELECT count(*) FROM orders WHERE placed_at >= $1 AND state NOT IN ('delivered', 'payment_failed', 'cancelled')) AS under_way,
       (SELECT count(*) FROM orders WHERE placed_at >= $1 AND pending <> '{}') AS pending,
       (SELECT count(*) FROM outbox) AS outbox,
       (SELECT count(*) FROM dead_letters WHERE state = 'replaying') AS replaying,
       (SELECT count(*) FROM letter_replays WHERE state = 'running') AS replays
"""

# How far a group is behind the orders themselves.
BEHIND: Final[LiteralString] = """
SELECT g.group_name, count(*) AS behind
FROM (VALUES ('fraud'), ('analytics'), ('notifications'), ('support')) AS g (group_name)
CROSS JOIN orders o
LEFT JOIN stream_positions p ON p.group_name = g.group_name AND p.order_id = o.order_id
WHERE o.placed_at >= $1 AND coalesce(p.position, 0) < o.position GROUP BY g.group_name
"""

# Orders by state, for those who watch.
STATES: Final[LiteralString] = "SELECT state, count(*) AS orders FROM orders WHERE placed_at >= $1 GROUP BY state"

# Whether services of ours run on this database already.
RUNNING: Final[LiteralString] = """
SELECT DISTINCT application_name FROM pg_stat_activity
WHERE application_name ~ '^rushline-(gateway|relay|clock|worker|stream)' ORDER BY application_name
"""
