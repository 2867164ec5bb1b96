"""Every SQL statement that records letters, changes one, and shows it. Searching is in `searching_sql.py`."""

from typing import Final, LiteralString

# See migrations/0010_letters.sql.
INGEST: Final[LiteralString] = "SELECT ingest_letters($1, $2, $3)"

# The watchdog lets go of commands that are letters from now on: of each order in turn, whoever else holds one. There is no inbox
# row, so that they can be replayed.
LET_GO: Final[LiteralString] = """
WITH parked AS MATERIALIZED (
    SELECT order_id, array_agg(message_id) AS ids FROM unnest($1::text[], $2::text[]) AS n (order_id, message_id) GROUP BY order_id
), held AS MATERIALIZED (
    SELECT o.order_id, o.pending - p.ids AS pending FROM orders o JOIN parked p USING (order_id) WHERE o.pending ?| p.ids
    ORDER BY o.order_id FOR UPDATE OF o
)
UPDATE orders o SET pending = held.pending,
    deadline = CASE WHEN held.pending = '{}' AND deadline = 'stuck' THEN NULL ELSE deadline END,
    deadline_at = CASE WHEN held.pending = '{}' AND deadline = 'stuck' THEN NULL ELSE deadline_at END
FROM held WHERE o.order_id = held.order_id
"""

# A letter, held until the transaction ends.
HOLD: Final[LiteralString] = "SELECT * FROM dead_letters WHERE letter_id = $1 FOR UPDATE"

# The same, without holding it.
READ: Final[LiteralString] = "SELECT * FROM dead_letters WHERE letter_id = $1"

# Of these letters the open ones, held in one order whoever takes them; bodies stay where they are.
HOLD_OPEN: Final[LiteralString] = """
SELECT letter_id, source, order_id, message_id, consumer, type, failure_type, fingerprint, version FROM dead_letters
WHERE letter_id = ANY ($1::text[]) AND state = 'open' ORDER BY letter_id FOR UPDATE
"""

# Letters that came to their end otherwise than by a replay: state, resolution, by whom and when, told in the history with
# these details, no longer counted as open, and no longer waited for by a replay.
END: Final[LiteralString] = """
WITH given AS MATERIALIZED (
    SELECT l.letter_id, l.fingerprint, g.detail
    FROM unnest($1::text[], $2::jsonb[]) AS g (letter_id, detail) JOIN dead_letters l USING (letter_id)
    WHERE l.state IN ('open', 'replaying')
), ended AS (
    UPDATE dead_letters l SET state = $3, resolution = $4, resolved_by = $5, resolved_at = $6, version = l.version + 1
    FROM given WHERE l.letter_id = given.letter_id
), told AS (
    INSERT INTO letter_history (letter_id, at, actor, action, detail) SELECT letter_id, $6, $5, $3, detail FROM given
), items AS (
    UPDATE letter_replay_items i SET state = 'done' FROM given WHERE i.letter_id = given.letter_id AND i.state = 'sent'
), calmed AS (
    UPDATE alerts SET cleared_at = $6
    WHERE kind = 'refund-parked' AND subject IN (SELECT letter_id FROM given) AND cleared_at IS NULL
), held AS MATERIALIZED (
    SELECT fingerprint FROM letter_groups WHERE fingerprint IN (SELECT fingerprint FROM given) ORDER BY fingerprint FOR UPDATE
)
UPDATE letter_groups g SET open = g.open - gone.number
FROM (SELECT fingerprint, count(*) AS number FROM given JOIN held USING (fingerprint) GROUP BY fingerprint) gone
WHERE g.fingerprint = gone.fingerprint
"""

# Something was done to a letter.
TELL: Final[LiteralString] = "INSERT INTO letter_history (letter_id, at, actor, action, detail) VALUES ($1, $2, $3, $4, $5)"

# Whose business a letter is.
ASSIGN: Final[LiteralString] = "UPDATE dead_letters SET owner = $2, version = version + 1 WHERE letter_id = $1 RETURNING *"

# Not before this time.
SNOOZE: Final[LiteralString] = (
    "UPDATE dead_letters SET snoozed_until = $2, version = version + 1 WHERE letter_id = $1 RETURNING *"
)

# The same for a group.
ASSIGN_GROUP: Final[LiteralString] = "UPDATE letter_groups SET owner = $2 WHERE fingerprint = $1 RETURNING *"
SNOOZE_GROUP: Final[LiteralString] = "UPDATE letter_groups SET snoozed_until = $2 WHERE fingerprint = $1 RETURNING *"

# What was done to a letter, oldest first.
HISTORY: Final[LiteralString] = """
SELECT at, actor, action, detail FROM letter_history WHERE letter_id = $1 ORDER BY id
"""

# Its edits, oldest first.
EDITS: Final[LiteralString] = """
SELECT edit_id, diff, reason, state, proposed_by, proposed_at, decided_by, decided_at
FROM letter_edits WHERE letter_id = $1 ORDER BY proposed_at, edit_id
"""

# The replays that a letter was part of, by what its history says of them.
REPLAYS: Final[LiteralString] = """
SELECT DISTINCT detail ->> 'replay' AS replay_id FROM letter_history
WHERE letter_id = $1 AND action = 'sent' AND detail ->> 'replay' IS NOT NULL ORDER BY 1
"""

# Every other failure of an order, the newest first.
OF_ORDER: Final[LiteralString] = """
SELECT letter_id, consumer, type, failure_type, error, state, resolution, last_failed_at FROM dead_letters
WHERE order_id = $1 AND letter_id <> $2 ORDER BY last_failed_at DESC, letter_id DESC LIMIT 100
"""

# How many letters nobody has settled, by what they are; and the oldest of them.
OPEN_BY_KIND: Final[LiteralString] = """
SELECT consumer, failure_type, sum(open)::bigint AS open FROM letter_groups GROUP BY consumer, failure_type
"""
OLDEST_OPEN: Final[LiteralString] = """
SELECT min(last_failed_at) AS at FROM dead_letters WHERE state = 'open'
"""

# Of these letters, the open ones whose order exists, by order: what their discarding is recorded with.
ORDERS_OF: Final[LiteralString] = """
SELECT l.letter_id, l.order_id, l.message_id, l.type, l.failure_type, l.version, l.source, l.consumer FROM dead_letters l
JOIN orders o USING (order_id) WHERE l.letter_id = ANY ($1::text[]) AND l.state = 'open' ORDER BY l.order_id, l.letter_id
"""

# Of these letters, those for which somebody else holds something back.
WITH_MORE_TO_DO: Final[LiteralString] = """
SELECT * FROM dead_letters WHERE letter_id = ANY ($1::text[]) AND source IN ('fact', 'outbox') ORDER BY letter_id
"""

# Alerts about letters ($2 by group, $3 by letter) that nobody need look at any more.
CLEAR_SETTLED: Final[LiteralString] = """
UPDATE alerts a SET cleared_at = $1 WHERE cleared_at IS NULL AND (
    (kind = $2 AND EXISTS (SELECT FROM letter_groups g WHERE g.fingerprint = a.subject AND g.open = 0))
    OR (kind = $3 AND EXISTS (SELECT FROM dead_letters l WHERE l.letter_id = a.subject AND l.state IN ('resolved', 'discarded'))))
"""

# Letters of commands that concern an order, the latest first: whether the command was done, and where the order is.
OF_ORDERS: Final[LiteralString] = """
SELECT l.letter_id, l.parked_at, l.message_id, l.type, l.category, l.state AS letter_state,
       CASE WHEN l.type = ANY ($4::text[]) AND octet_length(l.body) < 100000 THEN l.body END AS body,
       EXISTS (SELECT FROM inbox i WHERE i.message_id = l.message_id) AS done,
       o.order_id, o.state, o.pending, o.deadline, o.deadline_position
FROM dead_letters l LEFT JOIN orders o USING (order_id)
WHERE l.source = 'command' AND l.state IN ('open', 'replaying') AND l.order_id IS NOT NULL
    AND (l.parked_at, l.letter_id) < ($1::timestamptz, $2::text)
ORDER BY l.parked_at DESC, l.letter_id DESC LIMIT $3
"""

# The last event that moved each of these orders.
MOVED_BY: Final[LiteralString] = """
SELECT DISTINCT ON (order_id) order_id, position, type, event_id FROM order_events
WHERE order_id = ANY ($1::text[])
    AND convert_from(fact, 'UTF8')::jsonb ->> 'state' IS DISTINCT FROM convert_from(fact, 'UTF8')::jsonb ->> 'previous_state'
ORDER BY order_id, position DESC
"""
