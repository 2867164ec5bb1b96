"""Every SQL statement of the ledger's archive, and of reading across it and the ledger."""

from typing import Final, LiteralString

# One archiver at a time, as long as the connection lives.
LOCK: Final[LiteralString] = "SELECT pg_try_advisory_lock(hashtext('audit.archive'))"

# Let the next one.
UNLOCK: Final[LiteralString] = "SELECT pg_advisory_unlock(hashtext('audit.archive'))"

# The ranges of the ledger that ended before $1 and are in no archive, the oldest first.
DUE: Final[LiteralString] = """
SELECT r.from_at, r.to_at FROM audit.event_ranges() r
WHERE r.to_at <= least($1::timestamptz, now())
    AND NOT EXISTS (SELECT FROM audit.archives a WHERE a.from_at = r.from_at AND a.to_at = r.to_at)
ORDER BY r.from_at
"""

# What such a range holds.
EXTENT: Final[LiteralString] = """
SELECT count(*) AS events, min(leaf_index) AS first, max(leaf_index) + 1 AS "end", min(occurred_at) AS first_occurred_at,
       max(occurred_at) AS last_occurred_at
FROM audit.events WHERE sequenced_at >= $1 AND sequenced_at < $2
"""

# Some of its events, in the log's order: copied out in PostgreSQL's binary form (audit/archive/copying.py).
EVENTS_OF_RANGE: Final[LiteralString] = """
SELECT leaf_index, sequenced_at, body FROM audit.events
WHERE sequenced_at >= $1 AND sequenced_at < $2 AND leaf_index >= $3 AND leaf_index < $4 ORDER BY leaf_index
"""

# How many leaves the newest checkpoint covers.
SIGNED: Final[LiteralString] = "SELECT coalesce(max(size), 0) FROM audit.checkpoints"

# The first checkpoint that covers a tree of this size.
COVERING: Final[LiteralString] = "SELECT size, root, note FROM audit.checkpoints WHERE size >= $1 ORDER BY size LIMIT 1"

# The checkpoints above one size, up to another.
CHECKPOINTS: Final[LiteralString] = (
    "SELECT size, note FROM audit.checkpoints WHERE size > $1 AND size <= $2 ORDER BY size LIMIT $3"
)

# Up to where checkpoints are in an archive before this leaf.
ARCHIVED_CHECKPOINTS: Final[LiteralString] = """
SELECT coalesce(max((manifest -> 'tree' ->> 'size')::bigint), 0) FROM audit.archives WHERE first_leaf < $1
"""

# Tiles by level and index.
TILES: Final[LiteralString] = """
SELECT t.level, t.index, t.hashes FROM unnest($1::smallint[], $2::bigint[]) AS w (level, index)
JOIN audit.tiles t ON t.level = w.level AND t.index = w.index
"""

# An archive that was written. It may be known already.
ADD: Final[LiteralString] = """
INSERT INTO audit.archives (name, first_leaf, end_leaf, from_at, to_at, first_occurred_at, last_occurred_at, bytes, root, manifest, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'written') ON CONFLICT (name) DO NOTHING
"""

# The archive whose next step is due: what was begun first. $1: those of before this time are to be dropped.
NEXT: Final[LiteralString] = """
SELECT name, manifest, state, statement FROM audit.archives
WHERE state IN ('written', 'verified') OR (state = 'cold' AND greatest(to_at, last_occurred_at) <= $1::timestamptz)
ORDER BY state = 'cold', first_leaf LIMIT 1
"""

# All that would be dropped, for who only wants to know.
TO_DROP: Final[LiteralString] = """
SELECT name, manifest FROM audit.archives WHERE state = 'cold' AND greatest(to_at, last_occurred_at) <= $1::timestamptz ORDER BY first_leaf
"""

# Its next state, if it is still in the one that it was.
VERIFIED: Final[LiteralString] = """
UPDATE audit.archives SET state = 'verified', verified_at = now() WHERE name = $1 AND state = 'written'
"""

# What was dropped and why, signed; the first that was said stays.
STATE: Final[LiteralString] = """
UPDATE audit.archives SET statement = coalesce(statement, $2) WHERE name = $1 AND state = 'cold' RETURNING statement
"""

# Its files are gone.
DROPPED: Final[LiteralString] = """
UPDATE audit.archives SET state = 'dropped', dropped_at = now() WHERE name = $1 AND state = 'cold' AND statement IS NOT NULL
"""

# The events of a verified archive leave the ledger.
DROP_EVENTS: Final[LiteralString] = "SELECT audit.drop_events($1)"

# A damaged archive is forgotten while its events are still in the ledger.
FORGET: Final[LiteralString] = "SELECT audit.forget_archive($1)"

# Every archive, in the log's order.
ARCHIVES: Final[LiteralString] = """
SELECT name, first_leaf, end_leaf, from_at, to_at, bytes, state, written_at, cold_at, dropped_at FROM audit.archives ORDER BY first_leaf
"""

# Where events are that are no longer in the ledger: archives that may hold leaves $1 to $2, of $3 to $4.
COLD: Final[LiteralString] = """
SELECT name, manifest FROM audit.archives
WHERE state = 'cold' AND statement IS NULL AND end_leaf > $1 AND first_leaf < $2
    AND last_occurred_at >= $3::timestamptz AND first_occurred_at < $4::timestamptz
ORDER BY first_leaf
"""

# What the ledger itself has of these chains.
HOT_CHAINS: Final[LiteralString] = """
SELECT leaf_index, chain, position, body FROM audit.events WHERE chain = ANY ($1::text[])
"""

# Which positions these chains have that are in the log: up to their heads, without what was set aside.
HEADS: Final[LiteralString] = """
SELECT h.chain, h.position, array(SELECT b.position FROM audit.broken_events b WHERE b.chain = h.chain) AS aside
FROM audit.heads h WHERE h.chain = ANY ($1::text[])
"""

# Events of the ledger in the log's order.
HOT_LEAVES: Final[LiteralString] = """
SELECT leaf_index, chain, position, body FROM audit.events WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index LIMIT $3
"""

# One event of the ledger.
HOT_EVENT: Final[LiteralString] = "SELECT leaf_index, chain, position, body FROM audit.events WHERE event_id = $1"

# A page of the ledger's events, the newest first. $1 actor, $2 action, $3 state, $4 order, $5 from, $6 and $7 only before this
# time and leaf.
HOT_PAGE: Final[LiteralString] = """
SELECT leaf_index, chain, position, body, occurred_at FROM audit.events
WHERE ($1::text IS NULL OR actor_id = $1) AND ($2::text IS NULL OR action = $2) AND ($3::text IS NULL OR new_state = $3)
    AND ($4::text IS NULL OR chain = $4 OR chain = $4 || '.looks') AND occurred_at >= $5::timestamptz AND occurred_at <= $6::timestamptz
    AND (occurred_at < $6::timestamptz OR leaf_index < $7::bigint)
ORDER BY occurred_at DESC, leaf_index DESC LIMIT $8
"""

# For the rest of the transaction: each page is planned for its own values.
PLAN_FOR_VALUES: Final[LiteralString] = "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)"
