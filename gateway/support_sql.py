"""Every SQL statement of support's routes: searches, on the orders' database and on the ledger's."""

from typing import Final, LiteralString

# Orders, newest first, from where the last page ended. Planned for the values (`PLAN_FOR_VALUES`): what is not asked for is no
# condition at all, and what is has an index that is in the order of the pages.
SEARCH_ORDERS: Final[LiteralString] = """
SELECT order_id, customer_id, restaurant_id, driver_id, city, state, reason, currency, total, captured, refunded, position,
       last_fact, flagged, disputed, placed_at, picked_up_at, delivered_at, ended_at, updated_at
FROM support_orders
WHERE placed_at >= $1 AND (placed_at, order_id) < ($2, $3)
    AND ($4::text IS NULL OR order_id = $4) AND ($5::text IS NULL OR customer_id = $5)
    AND ($6::text IS NULL OR restaurant_id = $6) AND ($7::text IS NULL OR driver_id = $7)
    AND ($8::text IS NULL OR state = $8) AND ($9::text IS NULL OR city = $9)
    AND ($10::boolean IS NULL OR disputed = $10) AND ($11::boolean IS NULL OR flagged = $11)
ORDER BY placed_at DESC, order_id DESC LIMIT $12
"""

# Audit events, newest first, from where the last page ended.
SEARCH_AUDIT: Final[LiteralString] = """
SELECT leaf_index, chain, position, event_id, occurred_at, body FROM audit.events
WHERE occurred_at >= $1 AND (occurred_at, leaf_index) < ($2::timestamptz, $3::bigint)
    AND ($4::text IS NULL OR actor_id = $4) AND ($5::text[] IS NULL OR chain = ANY ($5))
ORDER BY occurred_at DESC, leaf_index DESC LIMIT $6
"""

# The same of some actions, that led to a state or to whichever: a page of each from its own index, and of these the newest.
SEARCH_ACTIONS: Final[LiteralString] = """
SELECT e.* FROM unnest($7::text[]) AS wanted (action) CROSS JOIN LATERAL (
    SELECT leaf_index, chain, position, event_id, occurred_at, body FROM audit.events
    WHERE action = wanted.action AND occurred_at >= $1 AND (occurred_at, leaf_index) < ($2::timestamptz, $3::bigint)
        AND ($4::text IS NULL OR actor_id = $4) AND ($5::text[] IS NULL OR chain = ANY ($5))
        AND ($8::text IS NULL OR new_state = $8)
    ORDER BY occurred_at DESC, leaf_index DESC LIMIT $6) AS e
ORDER BY e.occurred_at DESC, e.leaf_index DESC LIMIT $6
"""

# The keys that these ids name; a destroyed one is null.
KEYS: Final[LiteralString] = "SELECT key_id, key FROM personal_keys WHERE key_id = ANY ($1::text[])"
