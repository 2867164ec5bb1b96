"""Every SQL statement of the couriers. `SCHEMA.` is the schema of the group's held facts: see `sql.in_schema`."""

from typing import Final, LiteralString

# Parked facts whose letter was not written yet, where that cannot be done in the transaction that parks them.
TO_REPORT: Final[LiteralString] = """
SELECT topic, partition, kafka_offset, order_id, position, headers, body, trail, parked_at FROM SCHEMA.held_facts
WHERE group_name = $1 AND parked_at IS NOT NULL AND reported_at IS NULL ORDER BY parked_at LIMIT $2
"""

# Their letters are written. One that was parked again meanwhile has another one to come.
REPORTED: Final[LiteralString] = """
UPDATE SCHEMA.held_facts h SET reported_at = clock_timestamp()
FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::timestamptz[]) AS n (topic, partition, kafka_offset, parked_at)
WHERE h.group_name = $1 AND h.topic = n.topic AND h.partition = n.partition AND h.kafka_offset = n.kafka_offset
    AND h.parked_at = n.parked_at
"""

# What operators decided about this group's facts, oldest first.
DECISIONS: Final[LiteralString] = """
SELECT id, letter_id, topic, partition, kafka_offset, decision FROM held_decisions WHERE group_name = $1 ORDER BY id LIMIT $2
"""
CARRIED: Final[LiteralString] = "DELETE FROM held_decisions WHERE id = ANY ($1::bigint[])"

# A fact is tried again at once, its attempts anew. Nothing comes back where it is held no longer.
WAKE: Final[LiteralString] = """
UPDATE SCHEMA.held_facts SET wake_at = clock_timestamp(), attempts = 0, first_failed_at = NULL, parked_at = NULL, letter_id = $5
WHERE group_name = $1 AND topic = $2 AND partition = $3 AND kafka_offset = $4 AND skipped_at IS NULL AND discarded_at IS NULL
RETURNING letter_id
"""

# A fact will never take effect; its stream passes it at its turn.
SKIP: Final[LiteralString] = """
UPDATE SCHEMA.held_facts SET discarded_at = clock_timestamp(), wake_at = clock_timestamp(), letter_id = $5
WHERE group_name = $1 AND topic = $2 AND partition = $3 AND kafka_offset = $4 AND skipped_at IS NULL
RETURNING letter_id
"""

# Letters whose facts came to their end.
SETTLED: Final[LiteralString] = """
SELECT letter_id, outcome, settled_at FROM audit.settled_letters WHERE group_name = $1 ORDER BY settled_at LIMIT $2
"""
FORGET_SETTLED: Final[LiteralString] = """
DELETE FROM audit.settled_letters s USING unnest($1::text[], $2::timestamptz[]) AS n (letter_id, settled_at)
WHERE s.letter_id = n.letter_id AND s.settled_at = n.settled_at
"""

# How many facts a group holds, by why.
COUNTS: Final[LiteralString] = """
SELECT CASE WHEN parked_at IS NULL THEN kind ELSE 'parked' END AS kind, count(*) AS number FROM SCHEMA.held_facts
WHERE group_name = $1 AND skipped_at IS NULL GROUP BY 1
"""

# Orders that have waited too long for a fact that never came: nothing of theirs has failed.
GAPS: Final[LiteralString] = """
SELECT order_id, position, held_at FROM (
    SELECT DISTINCT ON (order_id) order_id, position, kind, held_at FROM SCHEMA.held_facts
    WHERE group_name = $1 AND skipped_at IS NULL AND position IS NOT NULL ORDER BY order_id, position, kafka_offset) AS first
WHERE kind = 'gap' AND held_at < clock_timestamp() - $2::interval ORDER BY held_at LIMIT 1000
"""

# Evidence that Kafka has no more either: it cannot be read again.
PRUNE: Final[LiteralString] = """
DELETE FROM SCHEMA.held_facts WHERE (group_name, topic, partition, kafka_offset) IN (
    SELECT group_name, topic, partition, kafka_offset FROM SCHEMA.held_facts
    WHERE group_name = $1 AND skipped_at < clock_timestamp() - $2::interval LIMIT $3)
"""
