# ruff: noqa: S608  # every piece is a constant of this module
"""Every SQL statement that brings back what the relay set aside."""

from typing import Final, LiteralString

_columns: LiteralString = """
event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers, broker, destination, priority, occurred_at
"""

# Rows that are no letters yet. What waits behind another ($1 is why) is none: it goes where that one goes.
NEW: Final[LiteralString] = (
    "SELECT id, reason, set_aside_at, " + _columns + "FROM outbox_set_aside "
    "WHERE letter_id IS NULL AND NOT starts_with(reason, $1) ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED"
)

# Which letter each of them is.
MARK: Final[LiteralString] = """
UPDATE outbox_set_aside s SET letter_id = m.letter_id FROM unnest($1::bigint[], $2::text[]) AS m (id, letter_id) WHERE s.id = m.id
"""

# A letter's row, and then what waits behind it ($2 is why) with nothing else before it, back to the lane in order. The
# history says where the letter's row is now.
SEND_BACK: Final[LiteralString] = (
    """
WITH head AS (
    DELETE FROM outbox_set_aside WHERE letter_id = $1 RETURNING *
), behind AS (
    DELETE FROM outbox_set_aside w USING head h
    WHERE w.broker = h.broker AND w.aggregate_id = h.aggregate_id AND w.destination = h.destination
        AND starts_with(w.reason, $2) AND NOT EXISTS (
            SELECT FROM outbox_set_aside o
            WHERE o.broker = h.broker AND o.aggregate_id = h.aggregate_id AND o.destination = h.destination AND o.id <> h.id
                AND NOT starts_with(o.reason, $2))
    RETURNING w.*
), moved AS (
    INSERT INTO outbox ("""
    + _columns + ") SELECT " + _columns + """
    FROM (SELECT 0 AS rank, * FROM head UNION ALL SELECT 1, * FROM behind) AS every ORDER BY rank, position, id
    RETURNING id, event_id, broker)
INSERT INTO letter_history (letter_id, at, actor, action, detail)
SELECT $1, now(), 'relay-' || m.broker, 'sent_back', jsonb_build_object('broker', m.broker, 'outbox_id', m.id)
FROM moved m JOIN head h USING (event_id)
"""
)  # fmt: skip

# A letter's row, gone.
DROP: Final[LiteralString] = "DELETE FROM outbox_set_aside WHERE letter_id = $1"

# What waits behind nothing ($1 is why it waited), back to the lane in order.
RELEASE_ORPHANS: Final[LiteralString] = (
    """
WITH freed AS (
    DELETE FROM outbox_set_aside w WHERE starts_with(w.reason, $1) AND NOT EXISTS (
        SELECT FROM outbox_set_aside o
        WHERE o.broker = w.broker AND o.aggregate_id = w.aggregate_id AND o.destination = w.destination
            AND NOT starts_with(o.reason, $1))
    RETURNING *
)
INSERT INTO outbox ("""
    + _columns + ") SELECT " + _columns + " FROM freed ORDER BY aggregate_id, position, id"
)  # fmt: skip

# Letters whose row was sent back and has left the outbox for its broker: they are resolved. One that was refused again is
# set aside once more, and so open again.
RESOLVE_SENT_BACK: Final[LiteralString] = """
WITH arrived AS MATERIALIZED (
    SELECT l.letter_id, l.fingerprint, l.message_id FROM dead_letters l
    CROSS JOIN LATERAL (SELECT detail ->> 'broker' AS broker, (detail ->> 'outbox_id')::bigint AS outbox_id FROM letter_history h
                        WHERE h.letter_id = l.letter_id AND action = 'sent_back' ORDER BY id DESC LIMIT 1) AS sent
    WHERE l.source = 'outbox' AND l.state = 'replaying'
        AND NOT EXISTS (SELECT FROM outbox o WHERE o.broker = sent.broker AND o.id = sent.outbox_id)
        AND NOT EXISTS (SELECT FROM outbox_set_aside a WHERE a.broker = sent.broker AND a.id = sent.outbox_id)
    ORDER BY l.letter_id LIMIT $2 FOR UPDATE OF l
), resolved AS (
    UPDATE dead_letters l SET state = 'resolved', resolution = 'replayed', resolved_by = l.consumer, resolved_at = $1,
        version = version + 1
    FROM arrived WHERE l.letter_id = arrived.letter_id
), told AS (
    INSERT INTO letter_history (letter_id, at, actor, action, detail)
    SELECT letter_id, $1, 'relay', 'resolved', '{"outcome": "published"}' FROM arrived
), items AS (
    UPDATE letter_replay_items i SET state = 'done' FROM arrived WHERE i.letter_id = arrived.letter_id AND i.state = 'sent'
), counted AS (
    UPDATE letter_groups g SET open = g.open - gone.number
    FROM (SELECT fingerprint, count(*) AS number FROM arrived GROUP BY fingerprint) gone WHERE g.fingerprint = gone.fingerprint
)
SELECT letter_id FROM arrived
"""
