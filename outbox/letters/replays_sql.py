"""Every SQL statement of replays of many letters."""

from typing import Final, LiteralString

# The open letters that a filter names and that failed up to the cut-off. What is snoozed, alone or with its group, is left
# alone unless its fingerprint is asked for. A fact waits for its turn behind earlier ones of its order: oldest first. Says how many.
CHOOSE: Final[LiteralString] = """
WITH chosen AS (
    SELECT l.letter_id, l.first_failed_at FROM dead_letters l
    WHERE l.state = 'open' AND l.last_failed_at <= $1
        AND ($2::text IS NULL OR l.fingerprint = $2)
        AND ($3::text IS NULL OR l.failure_type = $3)
        AND ($4::text IS NULL OR l.category = $4)
        AND ($5::text IS NULL OR l.consumer = $5)
        AND ($6::text IS NULL OR l.type = $6)
        AND ($7::text IS NULL OR l.order_id = $7)
        AND ($8::text IS NULL OR l.message_id = $8)
        AND ($9::text IS NULL OR l.owner = $9)
        AND ($10::text IS NULL OR l.words @@ websearch_to_tsquery('simple', $10))
        AND ($11::timestamptz IS NULL OR l.last_failed_at >= $11)
        AND ($12::timestamptz IS NULL OR l.last_failed_at < $12)
        AND ($2 IS NOT NULL OR ((l.snoozed_until IS NULL OR l.snoozed_until <= $13) AND NOT EXISTS (
            SELECT FROM letter_groups g WHERE g.fingerprint = l.fingerprint AND g.snoozed_until > $13)))
), items AS (
    INSERT INTO letter_replay_items (replay_id, number, letter_id, stage)
    SELECT $14, row_number() OVER (ORDER BY first_failed_at, letter_id), letter_id, 0 FROM chosen RETURNING number)
SELECT count(*) FROM items
"""

# A new replay. Its total and stages follow once its items are chosen.
OPEN: Final[LiteralString] = """
INSERT INTO letter_replays (replay_id, filter, cutoff, reason, stages, per_second, state, total, created_by, created_at, updated_at,
                            paced_at)
VALUES ($1, $2, $3, $4, '{}', $5::integer, 'running', 0, $6, $7, $7,
        $7::timestamptz - make_interval(secs => coalesce(1.0 / $5, 0)))
"""
SIZE: Final[LiteralString] = "UPDATE letter_replays SET total = $2, stages = $3 WHERE replay_id = $1"

# The replays that have something to do, oldest first.
RUNNING: Final[LiteralString] = "SELECT replay_id FROM letter_replays WHERE state = 'running' ORDER BY created_at LIMIT $1"

# One of them, for this transaction alone: a second keeper, or an operator at it, makes it wait for the next step.
TAKE: Final[LiteralString] = """
SELECT replay_id, cutoff, stages, stage, per_second, paced_at, created_by, failures_accepted FROM letter_replays
WHERE replay_id = $1 AND state = 'running' FOR UPDATE SKIP LOCKED
"""

# Where it stands: failures, whether anything is under way or waits, and how many of a stage were sent.
STAND: Final[LiteralString] = """
SELECT (SELECT count(*) FROM letter_replay_items WHERE replay_id = $1 AND state = 'failed') AS failed,
       EXISTS (SELECT FROM letter_replay_items WHERE replay_id = $1 AND state = 'sent') AS under_way,
       EXISTS (SELECT FROM letter_replay_items WHERE replay_id = $1 AND state = 'waiting') AS waits,
       CASE WHEN $3::boolean THEN (SELECT count(*) FROM letter_replay_items
                                   WHERE replay_id = $1 AND stage = $2 AND state IN ('sent', 'done', 'failed'))
       ELSE 0 END AS of_stage
"""

# Items whose letter came to an end that nobody wrote down here: open again means that it failed again.
LOOK_AGAIN: Final[LiteralString] = """
UPDATE letter_replay_items i SET state = CASE l.state WHEN 'open' THEN 'failed' ELSE 'done' END
FROM dead_letters l WHERE i.replay_id = $1 AND i.state = 'sent' AND l.letter_id = i.letter_id AND l.state <> 'replaying'
"""

# The next ones to send.
NEXT: Final[LiteralString] = """
SELECT number, letter_id FROM letter_replay_items WHERE replay_id = $1 AND state = 'waiting' ORDER BY number LIMIT $2
"""

# What became of a slice.
MARK: Final[LiteralString] = """
UPDATE letter_replay_items i SET stage = $2, state = m.state, why = m.why, sent_at = CASE WHEN m.state = 'sent' THEN $3::timestamptz END
FROM unnest($4::integer[], $5::text[], $6::text[]) AS m (number, state, why)
WHERE i.replay_id = $1 AND i.number = m.number
"""

# A slice was sent: the stage it belongs to, and up to when its pace is used up. What was saved up counts for a second.
PACE: Final[LiteralString] = """
UPDATE letter_replays SET stage = $2, updated_at = $3::timestamptz,
    paced_at = CASE WHEN per_second IS NULL THEN $3
               ELSE greatest(paced_at, $3 - interval '1 second') + make_interval(secs => $4::integer::float8 / per_second) END
WHERE replay_id = $1
"""

# It ends, or stops, and says why.
END: Final[LiteralString] = """
UPDATE letter_replays SET state = $2, why = $3, updated_at = $4, ended_at = CASE WHEN $2 = 'done' THEN $4::timestamptz END
WHERE replay_id = $1
"""

# The latest failure, and what its letter says.
LAST_FAILURE: Final[LiteralString] = """
SELECT i.letter_id, l.error, l.message FROM letter_replay_items i JOIN dead_letters l USING (letter_id)
WHERE i.replay_id = $1 AND i.state = 'failed' ORDER BY l.last_failed_at DESC LIMIT 1
"""

# One replay, held, for an operator's word on it.
HOLD: Final[LiteralString] = "SELECT state, why FROM letter_replays WHERE replay_id = $1 FOR UPDATE"
SAY: Final[LiteralString] = """
UPDATE letter_replays SET state = $2, why = $3, updated_at = $4,
    ended_at = CASE WHEN $2 = 'cancelled' THEN $4::timestamptz END,
    paced_at = CASE WHEN $2 = 'running' THEN $4 ELSE paced_at END,
    failures_accepted = CASE WHEN $2 = 'running' THEN
        (SELECT count(*) FROM letter_replay_items WHERE replay_id = $1 AND state = 'failed') ELSE failures_accepted END
WHERE replay_id = $1
"""
LEAVE: Final[LiteralString] = """
UPDATE letter_replay_items SET state = 'skipped', why = 'cancelled' WHERE replay_id = $1 AND state = 'waiting'
"""

# Replays, newest first, from a place on.
LIST: Final[LiteralString] = """
SELECT * FROM letter_replays
WHERE ($1::timestamptz IS NULL OR (created_at, replay_id) < ($1, $2::text)) AND ($3::text IS NULL OR state = $3)
ORDER BY created_at DESC, replay_id DESC LIMIT $4
"""
SHOW: Final[LiteralString] = "SELECT * FROM letter_replays WHERE replay_id = $1"

# How many items of each stage are in each state. Those that wait belong to no stage yet.
TALLY: Final[LiteralString] = """
SELECT CASE WHEN state = 'waiting' THEN NULL ELSE stage END AS stage, state, count(*) AS number,
       min(sent_at) AS first_sent_at, max(sent_at) AS last_sent_at
FROM letter_replay_items WHERE replay_id = $1 GROUP BY 1, 2
"""

# Its items, in order, from a number on.
ITEMS: Final[LiteralString] = """
SELECT number, letter_id, stage, state, why, sent_at FROM letter_replay_items
WHERE replay_id = $1 AND number > $2 AND ($3::text IS NULL OR state = $3) ORDER BY number LIMIT $4
"""

# Earlier replays of the same letters that stopped need nobody any more: somebody has begun this one instead.
TAKEN_UP: Final[LiteralString] = """
UPDATE alerts a SET cleared_at = $3 FROM letter_replays earlier, letter_replays this
WHERE this.replay_id = $2 AND earlier.filter = this.filter AND earlier.state = 'stopped'
    AND a.kind = $1 AND a.subject = earlier.replay_id AND a.cleared_at IS NULL
"""
