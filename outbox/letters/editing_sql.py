"""Every SQL statement of edits."""

from typing import Final, LiteralString

# The order that a letter is about, held if there is one: an order is always taken before its letters.
ORDER_OF: Final[LiteralString] = "SELECT order_id FROM dead_letters WHERE letter_id = $1"
HOLD_ORDER: Final[LiteralString] = "SELECT order_id FROM orders WHERE order_id = $1 FOR UPDATE"

# A letter's body as it was sent last: its latest edit's, or none, which means the original.
LATEST: Final[LiteralString] = """
SELECT body FROM letter_edits
WHERE letter_id = $1 AND state = 'sent' ORDER BY coalesce(decided_at, proposed_at) DESC, edit_id DESC LIMIT 1
"""

# An edit, as it is proposed.
WRITE: Final[LiteralString] = """
INSERT INTO letter_edits (edit_id, letter_id, base, body, diff, reason, state, proposed_by, proposed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

# The same edit, waiting already.
WAITING: Final[LiteralString] = """
SELECT edit_id FROM letter_edits WHERE letter_id = $1 AND state = 'waiting' AND body = $2
"""

# The letter has changed, though its state has not.
TOUCH: Final[LiteralString] = "UPDATE dead_letters SET version = version + 1 WHERE letter_id = $1"

# What was done to a letter.
TELL: Final[LiteralString] = """
INSERT INTO letter_history (letter_id, at, actor, action, detail) VALUES ($1, $2, $3, $4, $5)
"""

# One edit; and held.
SHOW: Final[LiteralString] = "SELECT * FROM letter_edits WHERE edit_id = $1"
HOLD: Final[LiteralString] = "SELECT * FROM letter_edits WHERE edit_id = $1 FOR UPDATE"

# Somebody has decided.
DECIDE: Final[LiteralString] = """
UPDATE letter_edits SET state = $2, decided_by = $3, decided_at = $4 WHERE edit_id = $1
"""

# Edits, newest first, from a place on. What waits for a letter that is no longer open waits for nothing.
LIST: Final[LiteralString] = """
SELECT e.* FROM letter_edits e JOIN dead_letters l USING (letter_id)
WHERE ($1::text IS NULL OR e.state = $1) AND ($2::text IS NULL OR e.letter_id = $2)
    AND ($1 IS DISTINCT FROM 'waiting' OR l.state = 'open')
    AND ($3::timestamptz IS NULL OR (e.proposed_at, e.edit_id) < ($3, $4::text))
ORDER BY e.proposed_at DESC, e.edit_id DESC LIMIT $5
"""
