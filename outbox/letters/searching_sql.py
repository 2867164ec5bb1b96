# ruff: noqa: S608  # every piece is a constant of this module
"""Every SQL statement that searches letters: whole constants; what people ask for is always a parameter.

A page is read from an index that is in its order, so that neither its depth nor the number of letters matters. They are
planned for the values that they are given (`PLAN_FOR_VALUES`): a condition that is not wanted is then none at all.
"""

from typing import Final, LiteralString

# For the rest of the transaction.
PLAN_FOR_VALUES: Final[LiteralString] = "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)"

# $1 states, $2 fingerprint, $3 failure type, $4 category, $5 consumer, $6 type, $7 order, $8 message, $9 owner, $10 words,
# $11 failed from, $12 and $13 only before this time and letter. Common to all of them.
_wanted: LiteralString = """
l.state = ANY ($1::text[]) AND ($2::text IS NULL OR l.fingerprint = $2) AND ($3::text IS NULL OR l.failure_type = $3)
AND ($4::text IS NULL OR l.category = $4) AND ($5::text IS NULL OR l.consumer = $5) AND ($6::text IS NULL OR l.type = $6)
AND ($7::text IS NULL OR l.order_id = $7) AND ($8::text IS NULL OR l.message_id = $8) AND ($9::text IS NULL OR l.owner = $9)
AND ($10::text IS NULL OR l.words @@ websearch_to_tsquery('simple', $10))
AND l.last_failed_at >= $11::timestamptz AND (l.last_failed_at, l.letter_id) < ($12::timestamptz, $13::text)
"""
_newest_first: LiteralString = " ORDER BY last_failed_at DESC, letter_id DESC "

# What a listing shows of a letter: without its body and stack, which may be long.
_shown: LiteralString = """
SELECT l.letter_id, l.source, l.message_id, l.consumer, l.queue, l.order_id, l.type, l.schema_version, l.position, l.routing_key,
       l.priority, l.headers, ''::bytea AS body, l.failure_type, l.category, l.reason, l.error, l.message, '' AS stack,
       l.fingerprint, l.attempts, l.generation, l.first_failed_at, l.last_failed_at, l.parked_at, l.quarantined_at, l.topic,
       l.partition, l.kafka_offset, l.state, l.resolution, l.resolved_by, l.resolved_at, l.owner, l.snoozed_until, l.version
"""

# The groups whose letters can be meant. Types that nobody knows share a group.
CHOSEN_GROUPS: Final[LiteralString] = """
SELECT fingerprint FROM letter_groups
WHERE ($1::text IS NULL OR fingerprint = $1) AND ($2::text IS NULL OR failure_type = $2)
    AND ($3::text IS NULL OR category = $3) AND ($4::text IS NULL OR consumer = $4)
    AND ($5::text IS NULL OR type = $5 OR type <> ALL ($6::text[]))
"""

# A page of any letters: merged from one walk for each state.
PAGE: Final[LiteralString] = (
    _shown + "FROM unnest($1::text[]) AS s (state) CROSS JOIN LATERAL ("
    "SELECT l.* FROM dead_letters l WHERE l.state = s.state AND " + _wanted + _newest_first + "LIMIT $14::integer) l"
    + _newest_first + "LIMIT $14"
)  # fmt: skip

# A page of some groups' letters: merged from one walk for each group and state.
PAGE_OF_GROUPS: Final[LiteralString] = (
    _shown + "FROM (SELECT k.letter_id FROM unnest($15::text[]) AS g (fingerprint) CROSS JOIN unnest($1::text[]) AS s (state) "
    "CROSS JOIN LATERAL (SELECT l.letter_id, l.last_failed_at FROM dead_letters l "
    "WHERE l.fingerprint = g.fingerprint AND l.state = s.state AND " + _wanted + _newest_first + "LIMIT $14::integer) k"
    + _newest_first + "LIMIT $14) AS chosen JOIN dead_letters l USING (letter_id)" + _newest_first
)  # fmt: skip

# A page of what is few by itself: an order's, a message's, an owner's.
PAGE_OF_FEW: Final[LiteralString] = _shown + "FROM dead_letters l WHERE " + _wanted + _newest_first + "LIMIT $14::integer"

# A page of letters with these words, if the newest $15 of any letters hold a whole one.
PAGE_OF_NEWEST: Final[LiteralString] = (
    _shown + "FROM (SELECT k.letter_id FROM unnest($1::text[]) AS s (state) CROSS JOIN LATERAL ("
    "SELECT l.letter_id, l.last_failed_at FROM dead_letters l WHERE l.state = s.state "
    "AND l.last_failed_at >= $11::timestamptz AND (l.last_failed_at, l.letter_id) < ($12::timestamptz, $13::text)"
    + _newest_first + "LIMIT $15::integer) k" + _newest_first + "LIMIT $15) AS newest "
    "JOIN dead_letters l USING (letter_id) WHERE " + _wanted + _newest_first + "LIMIT $14::integer"
)  # fmt: skip

# A page of letters with these words, and how many there are: all of them are looked at, but no more than $15. $16: of
# which groups, as words.
PAGE_OF_WORDS: Final[LiteralString] = (
    "WITH found AS MATERIALIZED (SELECT l.letter_id, l.last_failed_at FROM dead_letters l WHERE " + _wanted
    + "AND ($16::text IS NULL OR l.words @@ $16::text::tsquery) LIMIT $15::integer), chosen AS (SELECT letter_id FROM found" + _newest_first + "LIMIT $14::integer)"
    + _shown + ", (SELECT count(*) FROM found) AS found FROM chosen JOIN dead_letters l USING (letter_id)" + _newest_first
)  # fmt: skip

# How many match, counted no further than $14.
COUNT: Final[LiteralString] = "SELECT count(*) FROM (SELECT FROM dead_letters l WHERE " + _wanted + "LIMIT $14::integer) l"
COUNT_OF_WORDS: Final[LiteralString] = (
    "SELECT count(*) FROM (SELECT FROM dead_letters l WHERE " + _wanted + "AND l.words @@ $15::text::tsquery "
    "LIMIT $14::integer) l"
)  # fmt: skip
COUNT_OF_GROUPS: Final[LiteralString] = (
    "SELECT count(*) FROM (SELECT FROM unnest($15::text[]) AS g (fingerprint) CROSS JOIN unnest($1::text[]) AS s (state) "
    "CROSS JOIN LATERAL (SELECT FROM dead_letters l WHERE l.fingerprint = g.fingerprint AND l.state = s.state AND "
    + _wanted + "OFFSET 0) k LIMIT $14::integer) l"
)  # fmt: skip

# How many there are in whatever state, by their groups.
TOTAL: Final[LiteralString] = """
SELECT coalesce(sum(total), 0)::bigint FROM letter_groups
WHERE ($1::text IS NULL OR fingerprint = $1) AND ($2::text IS NULL OR failure_type = $2)
    AND ($3::text IS NULL OR category = $3) AND ($4::text IS NULL OR consumer = $4) AND ($5::text IS NULL OR type = $5)
"""

# Every letter that matches, oldest failure first. $14: without those that sleep then, unless their group is asked for.
MATCHING: Final[LiteralString] = (
    "SELECT l.letter_id FROM dead_letters l WHERE " + _wanted + "AND ($14::timestamptz IS NULL OR $2 IS NOT NULL OR ("
    "(l.snoozed_until IS NULL OR l.snoozed_until <= $14) AND NOT EXISTS ("
    "SELECT FROM letter_groups g WHERE g.fingerprint = l.fingerprint AND g.snoozed_until > $14))) "
    "ORDER BY l.last_failed_at, l.letter_id"
)

# A page of groups, those with most open letters first. $1 only with open ones, $2 snoozed ones too.
GROUPS: Final[LiteralString] = """
SELECT * FROM letter_groups
WHERE (NOT $1::boolean OR open > 0) AND ($2::boolean OR snoozed_until IS NULL OR snoozed_until <= now())
    AND (open < $3::bigint OR (open = $3 AND fingerprint > $4::text))
ORDER BY open DESC, fingerprint LIMIT $5::integer
"""

# One group.
GROUP: Final[LiteralString] = "SELECT * FROM letter_groups WHERE fingerprint = $1"
