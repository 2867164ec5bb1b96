"""Every SQL statement that verifies the ledger."""

from typing import Final, LiteralString

# Where the log ends: the last leaf that is here, the next that will be given. And up to where it has left for the archive, or was
# dropped from there, too.
RANGE: Final[LiteralString] = """
SELECT (SELECT max(leaf_index) FROM audit.events) AS last,
       (SELECT next_leaf FROM audit.sequence) AS next, (SELECT size FROM audit.tree) AS size, (SELECT root FROM audit.tree) AS root,
       (SELECT coalesce(max(end_leaf), 0) FROM audit.archives WHERE state IN ('cold', 'dropped')) AS cold,
       (SELECT coalesce(max(end_leaf), 0) FROM audit.archives WHERE state = 'dropped') AS dropped
"""

# A page of the log, in its order. The columns that repeat the event come as one text: a fourth of the work for who reads them.
PAGE: Final[LiteralString] = r"""
SELECT leaf_index, concat_ws(E'\x1f', chain, position, event_id, action, actor_type, actor_id, coalesce(new_state, ''),
                             to_json(occurred_at)), body
FROM audit.events WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index, sequenced_at
"""

# Tiles of one level, as they are stored.
TILES: Final[LiteralString] = """
SELECT index, hashes FROM audit.tiles WHERE level = $1 AND index >= $2 AND index < $3 ORDER BY index
"""

# The last events of these chains before a leaf.
BEFORE: Final[LiteralString] = """
SELECT DISTINCT ON (chain) chain, position, body FROM audit.events
WHERE chain = ANY ($1::text[]) AND leaf_index < $2 ORDER BY chain, leaf_index DESC
"""

# What the audit stream could not fit, as it came.
SET_ASIDE: Final[LiteralString] = """
SELECT chain, position, reason, body, broken_at FROM audit.broken_events ORDER BY id LIMIT $1
"""

# Heads counted and summed.
HEADS_SUM: Final[LiteralString] = "SELECT count(*) AS chains, coalesce(sum(position), 0)::bigint AS positions FROM audit.heads"

# The heads of these chains.
HEADS: Final[LiteralString] = """
SELECT chain, position, encode(hash, 'hex') AS hash FROM audit.heads WHERE chain = ANY ($1::text[])
"""

# Chains whose head is not their last event, or that have no head.
HEADS_THAT_DIFFER: Final[LiteralString] = """
SELECT coalesce(h.chain, e.chain) AS chain, h.position AS said, e.position AS found, e.events
FROM audit.heads h
FULL JOIN (SELECT chain, max(position) AS position, count(*) AS events FROM audit.events GROUP BY chain) e ON e.chain = h.chain
WHERE h.position IS DISTINCT FROM e.position OR e.events <> e.position ORDER BY 1 LIMIT $1
"""

# A page of heads, by chain.
HEADS_AFTER: Final[LiteralString] = """
SELECT chain, position, encode(hash, 'hex') AS hash FROM audit.heads
WHERE chain > $1 ORDER BY chain LIMIT $2
"""

# The hash of the event at a place.
AT: Final[LiteralString] = (
    "SELECT leaf_index, body FROM audit.events WHERE chain = $1 AND position = $2 ORDER BY leaf_index LIMIT 1"
)

# In the orders' database: a page of orders, with their heads.
ORDERS_AFTER: Final[LiteralString] = """
SELECT order_id AS chain, position, chain_head AS hash, updated_at AS at FROM orders
WHERE order_id > $1 ORDER BY order_id LIMIT $2
"""

# In the orders' database: a page of the other chains.
CHAINS_AFTER: Final[LiteralString] = """
SELECT chain, position, head AS hash, NULL::timestamptz AS at FROM audit_chains
WHERE chain > $1 ORDER BY chain LIMIT $2
"""

# In the orders' database: which of these orders are there.
ORDERS: Final[LiteralString] = "SELECT order_id AS chain FROM orders WHERE order_id = ANY ($1::text[])"

# In the orders' database: which of these events still wait to be published.
WAITING: Final[LiteralString] = """
SELECT DISTINCT aggregate_id FROM outbox WHERE aggregate_id = ANY ($1::text[]) AND destination = 'audit.events'
"""

# In the orders' database: an order's events as its transitions wrote them.
COPIES: Final[LiteralString] = """
SELECT position, audit AS body FROM order_events WHERE order_id = $1 AND position BETWEEN $2 AND $3 ORDER BY position
"""

# A chain's events between two positions.
BETWEEN: Final[LiteralString] = """
SELECT position, body FROM audit.events WHERE chain = $1 AND position BETWEEN $2 AND $3 ORDER BY position, leaf_index DESC
"""

# What stands at these leaves.
LEAVES: Final[LiteralString] = """
SELECT leaf_index, chain, position, event_id, body FROM audit.events WHERE leaf_index = ANY ($1::bigint[])
"""

# Checkpoints that the ledger keeps itself.
CHECKPOINTS: Final[LiteralString] = "SELECT size, note FROM audit.checkpoints WHERE size > $1 ORDER BY size LIMIT $2"
