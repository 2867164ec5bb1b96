"""Every SQL statement on rules, their uses, and the letters that they look at."""

from typing import Final, LiteralString

# All rules with their uses since a time, or the one of this id or name, in the order in which they are asked.
LIST: Final[LiteralString] = """
SELECT rule_id, name, description, match, action, enabled, per_hour, per_letter, expires_at, version, shipped, updated_by,
       updated_at, (SELECT count(*) FROM letter_rule_uses u WHERE u.rule_id = r.rule_id AND u.at > $1) AS used_last_hour,
       (SELECT max(at) FROM letter_rule_uses u WHERE u.rule_id = r.rule_id) AS last_used_at
FROM letter_rules r WHERE $2::text IS NULL OR $2 IN (rule_id, name) ORDER BY shipped, name COLLATE "C"
"""

# One rule, by its id where that is given, else by its name, held until the transaction ends.
HOLD: Final[LiteralString] = """
SELECT rule_id, name, description, match, action, enabled, per_hour, per_letter, expires_at, version, shipped, updated_by,
       updated_at
FROM letter_rules WHERE CASE WHEN $1 = '' THEN name = $2 ELSE rule_id = $1 END FOR UPDATE
"""

# A new rule, unless its name is taken.
INSERT: Final[LiteralString] = """
INSERT INTO letter_rules (rule_id, name, description, match, action, enabled, per_hour, per_letter, expires_at, updated_by,
                          updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING
RETURNING rule_id, name, description, match, action, enabled, per_hour, per_letter, expires_at, version, shipped, updated_by,
          updated_at
"""

# A rule as it is from now on, unless its new name is taken.
UPDATE: Final[LiteralString] = """
UPDATE letter_rules SET name = $2, description = $3, match = $4, action = $5, enabled = $6, per_hour = $7, per_letter = $8,
    expires_at = $9, expiry_told = false, version = version + 1, updated_by = $10, updated_at = $11
WHERE rule_id = $1 AND NOT EXISTS (SELECT FROM letter_rules WHERE name = $2 AND rule_id <> $1)
RETURNING rule_id, name, description, match, action, enabled, per_hour, per_letter, expires_at, version, shipped, updated_by,
          updated_at
"""

# A rule switched off, if it has this version or any.
SWITCH_OFF: Final[LiteralString] = """
UPDATE letter_rules SET enabled = false, version = version + 1, updated_by = $3, updated_at = $4
WHERE rule_id = $1 AND ($2::integer IS NULL OR version = $2)
RETURNING rule_id, name, description, match, action, enabled, per_hour, per_letter, expires_at, version, shipped, updated_by,
          updated_at
"""

# A shipped rule: new, or with its new conditions and effect. What operators set stays as they set it.
INSTALL: Final[LiteralString] = """
INSERT INTO letter_rules AS r (rule_id, name, description, match, action, enabled, per_hour, per_letter, expires_at, shipped,
                               updated_by, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, true, $10, $11)
ON CONFLICT (rule_id) DO UPDATE SET name = excluded.name, description = excluded.description, match = excluded.match,
    action = excluded.action, version = r.version + 1, updated_by = excluded.updated_by, updated_at = excluded.updated_at
WHERE (r.name, r.description, r.match, r.action)
    IS DISTINCT FROM (excluded.name, excluded.description, excluded.match, excluded.action)
RETURNING version
"""

# Shipped rules that are shipped no longer.
RETIRE: Final[LiteralString] = """
UPDATE letter_rules SET enabled = false, version = version + 1, updated_by = 'library', updated_at = $2
WHERE shipped AND enabled AND rule_id <> ALL ($1::text[])
RETURNING rule_id, name, version
"""

# Rules that have expired and were not said to have.
EXPIRED: Final[LiteralString] = """
UPDATE letter_rules SET expiry_told = true WHERE expires_at <= $1 AND NOT expiry_told AND rule_id IN (
    SELECT rule_id FROM letter_rules WHERE expires_at <= $1 AND NOT expiry_told FOR UPDATE SKIP LOCKED)
RETURNING rule_id, name, version
"""

# The letters that the rules have to look at now, the longest due first; the body, as it was sent last, only where a rule asks
# for it and not where it is too large to be looked at.
DUE: Final[LiteralString] = """
SELECT q.letter_id, q.changes, q.rule_id AS waits_for, l.source, l.message_id, l.state, l.version, l.generation, l.fingerprint, l.failure_type, l.category,
       l.type, l.consumer, l.reason, l.error, l.attempts, l.order_id, l.parked_at,
       greatest(l.snoozed_until, g.snoozed_until) AS snoozed_until,
       CASE WHEN $3 AND octet_length(l.body) <= $4 THEN coalesce(e.body, l.body) ELSE '' END AS body
FROM (SELECT letter_id, changes, rule_id, due_at FROM letter_rule_queue WHERE due_at <= $1 ORDER BY due_at, letter_id LIMIT $2) q
LEFT JOIN dead_letters l USING (letter_id)
LEFT JOIN letter_groups g ON g.fingerprint = l.fingerprint
LEFT JOIN LATERAL (
    SELECT body FROM letter_edits WHERE $3 AND letter_id = l.letter_id AND state = 'sent'
    ORDER BY coalesce(decided_at, proposed_at) DESC, edit_id DESC LIMIT 1) e ON true
ORDER BY q.due_at, q.letter_id
"""

# Per rule: its uses since a time, the first of them, and up to when letters wait for room under its limit.
LIMITS: Final[LiteralString] = """
SELECT r.rule_id, count(u.at) AS used, min(u.at) AS first_at,
       (SELECT max(due_at) FROM letter_rule_queue q WHERE q.rule_id = r.rule_id) AS waiting_until
FROM unnest($1::text[]) AS r (rule_id) LEFT JOIN letter_rule_uses u ON u.rule_id = r.rule_id AND u.at > $2
GROUP BY r.rule_id
"""

# Letters that no rule is about: out of the queue, unless they came in again since they were looked at.
LEAVE: Final[LiteralString] = """
DELETE FROM letter_rule_queue WHERE letter_id IN (
    SELECT letter_id FROM letter_rule_queue q JOIN unnest($1::text[], $2::integer[]) AS seen (letter_id, changes)
        USING (letter_id, changes) ORDER BY letter_id FOR UPDATE OF q)
"""

# Letters to be looked at later, unless they came in again since; `rule_id` where they wait for room under a limit.
PUT_OFF: Final[LiteralString] = """
UPDATE letter_rule_queue q SET due_at = seen.due_at, rule_id = seen.rule_id
FROM (SELECT s.* FROM letter_rule_queue w JOIN unnest($1::text[], $2::integer[], $3::timestamptz[], $4::text[])
          AS s (letter_id, changes, due_at, rule_id) USING (letter_id, changes) ORDER BY letter_id FOR UPDATE OF w) seen
WHERE q.letter_id = seen.letter_id
"""

# The rule, if it is still the same and may be used: held, so that it is not switched off in the midst of a use.
HOLD_FOR_USE: Final[LiteralString] = """
SELECT rule_id FROM letter_rules WHERE rule_id = $1 AND version = $2 AND enabled AND expires_at > $3 FOR NO KEY UPDATE
"""

# How often a rule was used since a time.
USES: Final[LiteralString] = "SELECT count(*) FROM letter_rule_uses WHERE rule_id = $1 AND at > $2"

# An order, held so that nobody moves it before we do.
HOLD_ORDER: Final[LiteralString] = "SELECT order_id FROM orders WHERE order_id = $1 FOR NO KEY UPDATE"

# A letter, held if it is still as it was looked at.
HOLD_LETTER: Final[LiteralString] = """
SELECT letter_id FROM dead_letters WHERE letter_id = $1 AND version = $2 AND state = 'open' FOR UPDATE
"""

# One use, unless this rule was used for this failure of this letter before.
USE: Final[LiteralString] = """
INSERT INTO letter_rule_uses (rule_id, letter_id, generation, outcome, at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING letter_id
"""

# The end of a use that began with a wait.
END_USE: Final[LiteralString] = """
UPDATE letter_rule_uses SET outcome = $4 WHERE rule_id = $1 AND letter_id = $2 AND generation = $3 AND outcome = 'delayed'
RETURNING letter_id
"""

# One line of a letter's history.
TELL: Final[LiteralString] = "INSERT INTO letter_history (letter_id, at, actor, action, detail) VALUES ($1, $2, $3, $4, $5)"

# Where the second look at all letters is.
SWEEP: Final[LiteralString] = "SELECT round, fingerprint, last_failed_at, letter_id FROM letter_rule_sweep WHERE under_way"

# Groups with open letters, behind this one.
GROUPS: Final[LiteralString] = """
SELECT fingerprint, failure_type, category, type, consumer, error FROM letter_groups
WHERE fingerprint > $1 AND open > 0 ORDER BY fingerprint LIMIT $2
"""

# A group's open letters, the latest failure first, from a place on; those that are in the queue already come to be due.
SWEEP_IN: Final[LiteralString] = """
WITH page AS MATERIALIZED (
    SELECT letter_id, last_failed_at, parked_at FROM dead_letters
    WHERE fingerprint = $1 AND state = 'open' AND (last_failed_at, letter_id) < (coalesce($2, 'infinity'::timestamptz), $3)
    ORDER BY last_failed_at DESC, letter_id DESC LIMIT $4
), come_in AS (
    INSERT INTO letter_rule_queue AS q (letter_id, due_at) SELECT letter_id, least(parked_at, $5) FROM page ORDER BY letter_id
    ON CONFLICT (letter_id) DO UPDATE SET due_at = excluded.due_at, rule_id = NULL, changes = q.changes + 1
)
SELECT letter_id, last_failed_at FROM page ORDER BY last_failed_at DESC, letter_id DESC
"""

# The second look has come to here, unless it was begun anew meanwhile.
SWEEP_ON: Final[LiteralString] = """
UPDATE letter_rule_sweep SET fingerprint = $2, last_failed_at = $3, letter_id = $4, under_way = $5 WHERE round = $1
"""

# A group's letters that failed since a time, in whatever state, the latest first, from a place on.
PAST: Final[LiteralString] = """
SELECT letter_id, source, state, version, generation, fingerprint, failure_type, category, type, consumer, reason, error,
       attempts, order_id, parked_at, last_failed_at, schema_version, routing_key, message_id,
       greatest(l.snoozed_until, (SELECT snoozed_until FROM letter_groups WHERE fingerprint = $1)) AS snoozed_until,
       CASE WHEN $6 AND octet_length(l.body) <= $7 THEN coalesce(e.body, l.body) ELSE '' END AS body
FROM dead_letters l
LEFT JOIN LATERAL (
    SELECT body FROM letter_edits WHERE $6 AND letter_id = l.letter_id AND state = 'sent'
    ORDER BY coalesce(decided_at, proposed_at) DESC, edit_id DESC LIMIT 1) e ON true
WHERE fingerprint = $1 AND state = $2 AND last_failed_at >= $3 AND (last_failed_at, letter_id) < (coalesce($4, 'infinity'::timestamptz), $5)
ORDER BY last_failed_at DESC, letter_id DESC LIMIT $8
"""

# Groups that have had letters since a time, in pages.
PAST_GROUPS: Final[LiteralString] = """
SELECT fingerprint, failure_type, category, type, consumer, error FROM letter_groups
WHERE last_at >= $1 AND fingerprint > $2 ORDER BY fingerprint LIMIT $3
"""
