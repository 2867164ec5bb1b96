"""Every SQL statement that shows what automatic fixes did."""

from typing import Final, LiteralString

# Uses of a rule, the latest first, after the one that was seen last.
OF_RULE: Final[LiteralString] = """
SELECT u.letter_id, u.generation, u.at, u.outcome, l.type, l.order_id, l.state
FROM letter_rule_uses u JOIN dead_letters l USING (letter_id)
WHERE u.rule_id = $1 AND ($2::timestamptz IS NULL OR (u.at, u.letter_id) < ($2, $3::text))
ORDER BY u.at DESC, u.letter_id DESC LIMIT $4
"""

# How often rules were used on these letters, and whether for the failure that they have now.
ON_LETTERS: Final[LiteralString] = """
SELECT u.letter_id, u.rule_id, count(*) AS times,
       max(u.outcome) FILTER (WHERE u.generation = l.generation) AS outcome
FROM letter_rule_uses u JOIN dead_letters l USING (letter_id)
WHERE u.letter_id = ANY ($1::text[]) GROUP BY u.letter_id, u.rule_id
"""
