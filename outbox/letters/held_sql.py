"""Every SQL statement by which an operator's decision reaches a held fact."""

from typing import Final, LiteralString

# Facts of these letters are tried again at once, their attempts anew; those held elsewhere are asked for. The letters whose
# fact is still held come back.
WAKE: Final[LiteralString] = """
WITH wanted AS MATERIALIZED (
    SELECT letter_id, consumer, topic, partition, kafka_offset, headers ->> 'rushline-held-in' AS held_in FROM dead_letters
    WHERE letter_id = ANY ($1::text[]) AND source = 'fact' ORDER BY letter_id
), woken AS (
    UPDATE held_facts h SET wake_at = clock_timestamp(), attempts = 0, first_failed_at = NULL, parked_at = NULL,
        letter_id = w.letter_id
    FROM wanted w WHERE w.held_in = 'public' AND h.group_name = w.consumer AND h.topic = w.topic
        AND h.partition = w.partition AND h.kafka_offset = w.kafka_offset
        AND h.skipped_at IS NULL AND h.discarded_at IS NULL
    RETURNING w.letter_id
), asked AS (
    INSERT INTO held_decisions (letter_id, group_name, topic, partition, kafka_offset, decision)
    SELECT letter_id, consumer, topic, partition, kafka_offset, 'wake' FROM wanted
    WHERE held_in <> 'public' AND topic IS NOT NULL AND partition IS NOT NULL AND kafka_offset IS NOT NULL
    RETURNING letter_id
)
SELECT letter_id FROM woken UNION ALL SELECT letter_id FROM asked
"""

# The same for facts that will never take effect: their stream passes them at their turn.
SKIP: Final[LiteralString] = """
WITH wanted AS MATERIALIZED (
    SELECT letter_id, consumer, topic, partition, kafka_offset, headers ->> 'rushline-held-in' AS held_in FROM dead_letters
    WHERE letter_id = ANY ($1::text[]) AND source = 'fact' ORDER BY letter_id
), skipped AS (
    UPDATE held_facts h SET discarded_at = clock_timestamp(), wake_at = clock_timestamp(), letter_id = w.letter_id
    FROM wanted w WHERE w.held_in = 'public' AND h.group_name = w.consumer AND h.topic = w.topic
        AND h.partition = w.partition AND h.kafka_offset = w.kafka_offset AND h.skipped_at IS NULL
    RETURNING w.letter_id
), asked AS (
    INSERT INTO held_decisions (letter_id, group_name, topic, partition, kafka_offset, decision)
    SELECT letter_id, consumer, topic, partition, kafka_offset, 'skip' FROM wanted
    WHERE held_in <> 'public' AND topic IS NOT NULL AND partition IS NOT NULL AND kafka_offset IS NOT NULL
    RETURNING letter_id
)
SELECT letter_id FROM skipped UNION ALL SELECT letter_id FROM asked
"""
