"""Every SQL statement that an investigation reads by: three on the orders' database, two on the ledger's."""

from typing import Final, LiteralString

# An order with everything about it that is kept beside it, in one trip. The bodies of letters stay where they are.
ORDER: Final[LiteralString] = """
SELECT to_jsonb(o)::text AS order_row,
    (SELECT jsonb_build_object('position', c.position, 'head', c.head) FROM audit_chains c WHERE c.chain = $1 || '.looks') AS looks,
    (SELECT coalesce(jsonb_agg(to_jsonb(l) ORDER BY l.first_failed_at), '[]') FROM (
        SELECT letter_id, type, consumer, failure_type, error, message, state, resolution, resolved_by, attempts,
               first_failed_at, last_failed_at
        FROM dead_letters WHERE order_id = $1 ORDER BY last_failed_at DESC, letter_id DESC LIMIT 100) l) AS failures,
    (SELECT coalesce(jsonb_agg(to_jsonb(h) ORDER BY h.held_at), '[]') FROM (
        SELECT group_name AS "group", position, kind, reason, held_at, parked_at IS NOT NULL AS parked
        FROM held_facts WHERE order_id = $1 AND skipped_at IS NULL LIMIT 100) h) AS held,
    (SELECT coalesce(jsonb_agg(to_jsonb(d) ORDER BY d.opened_at), '[]') FROM (
        SELECT dispute_id, kind, state, opened_by, opened_at, assigned_to, reason, amount, resolved_by, resolved_at,
               (SELECT count(*) FROM dispute_evidence e WHERE e.dispute_id = s.dispute_id) AS evidence
        FROM disputes s WHERE s.order_id = $1 ORDER BY s.opened_at DESC LIMIT 100) d) AS disputes
FROM orders o WHERE o.order_id = $1
"""

# The orders' own copy of an order's events, while it is kept.
OWN_EVENTS: Final[LiteralString] = """
SELECT position, audit FROM order_events WHERE order_id = $1 AND occurred_at BETWEEN $2 AND $3 ORDER BY position
"""

# Keys by their ids; a destroyed one is null.
KEYS: Final[LiteralString] = "SELECT key_id, key FROM personal_keys WHERE key_id = ANY ($1::text[])"

# What the log has of these chains, since a time before any of their events.
LEAVES: Final[LiteralString] = """
SELECT chain, position, leaf_index, body FROM audit.events
WHERE chain = ANY ($1::text[]) AND sequenced_at >= $2 ORDER BY chain, position, leaf_index
"""

# What did not fit these chains, what the audit group holds of them, how far the log has come, the first checkpoint above a leaf, and whether events of this span of
# time have left for the archive.
LOG: Final[LiteralString] = """
SELECT s.next_leaf AS log_size, c.size AS covered_size, c.signed_at AS covered_at,
    EXISTS (SELECT FROM audit.archives a WHERE a.state IN ('cold', 'dropped') AND a.last_occurred_at >= $3
            AND a.first_occurred_at <= $4) AS archived,
    (SELECT coalesce(jsonb_agg(jsonb_build_array(b.chain, b.position, b.reason) ORDER BY b.id), '[]')
     FROM audit.broken_events b WHERE b.chain = ANY ($1::text[])) AS set_aside,
    (SELECT coalesce(jsonb_agg(to_jsonb(h) ORDER BY h.held_at), '[]') FROM (
        SELECT group_name AS "group", position, kind, reason, held_at, parked_at IS NOT NULL AS parked
        FROM audit.held_facts WHERE order_id = ANY ($1::text[]) AND skipped_at IS NULL LIMIT 100) h) AS held
FROM audit.sequence s LEFT JOIN LATERAL (
    SELECT size, signed_at FROM audit.checkpoints WHERE size > $2 ORDER BY size LIMIT 1) c ON true
"""
