"""Every SQL statement that sends letters again and settles them."""

from typing import Final, LiteralString

# One letter, held until the transaction ends.
HOLD: Final[LiteralString] = "SELECT * FROM dead_letters WHERE letter_id = $1 FOR UPDATE"

# Letters, held in one order whoever takes them. What follows in the transaction sees them as they are then.
HOLD_MANY: Final[LiteralString] = """
SELECT letter_id, source, category, type FROM dead_letters WHERE letter_id = ANY ($1::text[]) ORDER BY letter_id FOR UPDATE
"""

# Letters that their order may have overtaken, with what tells whether it has.
WITH_ORDERS: Final[LiteralString] = """
SELECT l.letter_id, l.type, l.message_id, coalesce(e.body, l.body) AS body, o.state, o.pending, o.deadline, o.deadline_position
FROM dead_letters l JOIN orders o USING (order_id) LEFT JOIN LATERAL (
    SELECT body FROM letter_edits
    WHERE letter_id = l.letter_id AND state = 'sent' ORDER BY coalesce(decided_at, proposed_at) DESC, edit_id DESC LIMIT 1
) e ON true
WHERE l.letter_id = ANY ($1::text[]) AND octet_length(coalesce(e.body, l.body)) <= $2
"""

# Letters that nobody could read when they were parked: what it takes to see whether that has changed.
UNREAD: Final[LiteralString] = """
SELECT l.letter_id, l.type, l.schema_version, l.routing_key, l.message_id, coalesce(e.body, l.body) AS body,
       e.edit_id IS NOT NULL AS edited
FROM dead_letters l LEFT JOIN LATERAL (
    SELECT body, edit_id FROM letter_edits
    WHERE letter_id = l.letter_id AND state = 'sent' ORDER BY coalesce(decided_at, proposed_at) DESC, edit_id DESC LIMIT 1
) e ON true
WHERE l.letter_id = ANY ($1::text[]) AND octet_length(coalesce(e.body, l.body)) <= $2
"""

# Sends what may be sent, says of the others why not: judged, set to replaying, written into the outbox and into the
# history, all at once. Commands get a row here; facts and rows set aside by the relay are released by their owners. The
# original headers go out again without their trail of failures; they hold the event's own time, so the row's is now.
# $1 ids, $2 actor, $3 now, $4 ids that cannot be read, $5 replay, $6 cut-off, $7 ids that are superseded, $8 lowest priority,
# $9 largest body, $10 the schema version that edits are written in, $11 how.
SEND: Final[LiteralString] = """
WITH judged AS MATERIALIZED (
    SELECT l.*, coalesce(e.body, l.body) AS latest, e.edit_id,
        CASE WHEN l.state <> 'open' THEN
                 CASE WHEN l.resolution = 'superseded' THEN 'superseded' ELSE l.state END
             WHEN $6::timestamptz IS NOT NULL AND l.last_failed_at > $6 THEN 'failed-since'
             WHEN l.source = 'command' AND EXISTS (SELECT FROM inbox WHERE message_id = l.message_id) THEN 'done-before'
             WHEN l.letter_id = ANY ($7::text[]) THEN 'superseded'
             WHEN l.source = 'command' AND octet_length(coalesce(e.body, l.body)) > $9 THEN 'too-large'
             WHEN l.letter_id = ANY ($4::text[]) THEN 'unreadable'
        END AS refusal
    FROM dead_letters l LEFT JOIN LATERAL (
        SELECT body, edit_id FROM letter_edits
        WHERE letter_id = l.letter_id AND state = 'sent' ORDER BY coalesce(decided_at, proposed_at) DESC, edit_id DESC LIMIT 1
    ) e ON true
    WHERE l.letter_id = ANY ($1::text[])
), moved AS (
    UPDATE dead_letters l SET state = 'replaying', version = l.version + 1
    FROM judged j WHERE l.letter_id = j.letter_id AND j.refusal IS NULL
), told AS (
    INSERT INTO letter_history (letter_id, at, actor, action, detail)
    SELECT letter_id, $3, $2, 'sent', jsonb_strip_nulls(jsonb_build_object(
        'as', CASE WHEN $11::text = 'replayed' AND edit_id IS NOT NULL THEN 'edited' ELSE $11 END,
        'replay', $5::text, 'edit', edit_id, 'generation', generation))
    FROM judged WHERE refusal IS NULL
), written AS (
    INSERT INTO outbox (event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers, broker,
                        destination, priority, occurred_at)
    SELECT j.message_id, 'order', coalesce(j.order_id, j.message_id), j.position, j.type,
           CASE WHEN j.edit_id IS NULL THEN coalesce(j.schema_version, $10::integer) ELSE least(j.schema_version, $10) END, j.latest,
           (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(j.headers)
            WHERE NOT starts_with(key, 'rushline-') AND NOT starts_with(key, 'x-') AND key <> 'quarantined_at')
           || CASE WHEN j.edit_id IS NULL THEN '{}' ELSE jsonb_build_object('rushline-edit', j.edit_id,
                   'cloudEvents_schemaversion', least(j.schema_version, $10)::text) END
           || CASE WHEN $5 IS NULL THEN '{}' ELSE jsonb_build_object('rushline-replay', $5) END
           || jsonb_build_object('rushline-letter', j.letter_id),
           'rabbitmq', j.routing_key, greatest(j.priority, $8::smallint), $3
    FROM judged j WHERE j.refusal IS NULL AND j.source = 'command' ORDER BY j.first_failed_at, j.letter_id
)
SELECT letter_id, source, refusal, state, resolution, resolved_by, resolved_at, message_id FROM judged
"""

# Letters that came to their end: resolved, told, no longer counted, and with them the items of the replay that sent them. One
# that was discarded while a copy of its message was on its way stays so, and its history says that the copy was done.
# $1 ids, $2 the resolution (NULL: as what they were sent), $3 by (NULL: who sent them), $4 now, $5 the outcome as told.
RESOLVE: Final[LiteralString] = """
WITH chosen AS MATERIALIZED (
    SELECT letter_id, fingerprint FROM dead_letters
    WHERE letter_id = ANY ($1::text[]) AND state IN ('open', 'replaying') ORDER BY letter_id FOR UPDATE
), sent AS MATERIALIZED (
    SELECT c.letter_id, h.actor, h.detail ->> 'as' AS sent_as
    FROM chosen c LEFT JOIN LATERAL (
        SELECT actor, detail FROM letter_history
        WHERE letter_id = c.letter_id AND action = 'sent' ORDER BY id DESC LIMIT 1) h ON true
), resolved AS (
    UPDATE dead_letters l SET state = 'resolved', resolution = coalesce($2, s.sent_as, 'replayed'),
        resolved_by = coalesce($3, s.actor, 'worker'), resolved_at = $4, version = l.version + 1
    FROM sent s WHERE l.letter_id = s.letter_id
), told AS (
    INSERT INTO letter_history (letter_id, at, actor, action, detail)
    SELECT letter_id, $4, coalesce($3, actor, 'worker'), 'resolved', jsonb_build_object('outcome', $5::text) FROM sent
), too_late AS (
    INSERT INTO letter_history (letter_id, at, actor, action, detail)
    SELECT letter_id, $4, coalesce($3, 'worker'), 'done_all_the_same', jsonb_build_object('outcome', $5::text) FROM dead_letters l
    WHERE letter_id = ANY ($1::text[]) AND state = 'discarded' AND $5::text = 'done' AND NOT EXISTS (
        SELECT FROM letter_history h WHERE h.letter_id = l.letter_id AND h.action = 'done_all_the_same' AND h.at >= l.resolved_at)
), items AS (
    UPDATE letter_replay_items SET state = 'done' WHERE letter_id = ANY ($1) AND state = 'sent'
), calmed AS (
    UPDATE alerts SET cleared_at = $4
    WHERE kind = 'refund-parked' AND subject IN (SELECT letter_id FROM chosen) AND cleared_at IS NULL
), held AS MATERIALIZED (
    SELECT fingerprint FROM letter_groups WHERE fingerprint IN (SELECT fingerprint FROM chosen) ORDER BY fingerprint FOR UPDATE
)
UPDATE letter_groups g SET open = g.open - gone.number
FROM (SELECT fingerprint, count(*) AS number FROM chosen JOIN held USING (fingerprint) GROUP BY fingerprint) gone
WHERE g.fingerprint = gone.fingerprint
"""

# Commands that were sent again before this time and have come to no end since, held.
UNDER_WAY_SINCE: Final[LiteralString] = """
SELECT l.letter_id, h.actor, h.detail ->> 'replay' AS replay_id FROM dead_letters l CROSS JOIN LATERAL (
    SELECT actor, detail, at FROM letter_history
    WHERE letter_id = l.letter_id AND action = 'sent' ORDER BY id DESC LIMIT 1) h
WHERE l.state = 'replaying' AND l.source = 'command' AND h.at < $1
ORDER BY l.letter_id LIMIT $2 FOR UPDATE OF l SKIP LOCKED
"""

# As if they had not been sent, for the rest of the transaction.
OPEN_AGAIN: Final[LiteralString] = "UPDATE dead_letters SET state = 'open' WHERE letter_id = ANY ($1::text[])"
