"""Every SQL statement of the audit ledger."""

from typing import Final, LiteralString

# This month's partition of the ledger and the next three.
PREPARE: Final[LiteralString] = "SELECT audit.maintain_events(3)"

# What the next event of each of these orders must link to.
HEADS: Final[LiteralString] = "SELECT order_id, hash, broken_at FROM audit.heads WHERE order_id = ANY ($1::text[])"

# Events that fit, and the new heads of their orders, in one statement.
APPEND: Final[LiteralString] = """
WITH stored AS (
    INSERT INTO audit.events (order_id, position, event_id, action, actor_type, actor_id, new_state, occurred_at, prev_hash,
                              hash, body)
    SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::timestamptz[], $9::bytea[], $10::bytea[], $11::bytea[]))
INSERT INTO audit.heads (order_id, position, hash, broken_at)
SELECT * FROM unnest($12::text[], $13::integer[], $14::bytea[], $15::integer[])
ON CONFLICT (order_id) DO UPDATE SET position = excluded.position, hash = excluded.hash,
    broken_at = coalesce(heads.broken_at, excluded.broken_at)
"""

# Events that do not fit, as they came.
SET_ASIDE: Final[LiteralString] = """
INSERT INTO audit.broken_events (order_id, position, reason, body)
SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::bytea[]) ON CONFLICT DO NOTHING
"""

# Which of these are in the ledger, or set aside, with the very same bytes.
KNOWN: Final[LiteralString] = """
SELECT n.ordinal FROM unnest($1::text[], $2::integer[], $3::bytea[]) WITH ORDINALITY AS n (order_id, position, body, ordinal)
WHERE EXISTS (SELECT FROM audit.events e WHERE e.order_id = n.order_id AND e.position = n.position AND e.body = n.body)
   OR EXISTS (SELECT FROM audit.broken_events b WHERE b.order_id = n.order_id AND b.position = n.position
              AND b.digest = sha256(n.body))
"""
