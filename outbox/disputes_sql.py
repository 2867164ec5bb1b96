"""Every SQL statement on disputes and their evidence."""

from typing import Final, LiteralString

# A dispute is opened. A second open one of its order violates disputes_one_open.
OPEN: Final[LiteralString] = """
INSERT INTO disputes (dispute_id, order_id, customer_id, kind, state, currency, claim, opened_by, opened_at)
VALUES ($1, $2, $3, $4, 'open', $5, $6, $7, $8)
"""

# A dispute as it is.
READ: Final[LiteralString] = "SELECT * FROM disputes WHERE dispute_id = $1"

# The same, held until the transaction ends.
HOLD: Final[LiteralString] = "SELECT * FROM disputes WHERE dispute_id = $1 FOR UPDATE"

# Whose business it is.
ASSIGN: Final[LiteralString] = """
UPDATE disputes SET assigned_to = $2, assigned_at = $3, version = version + 1 WHERE dispute_id = $1
"""

# Something more that was brought forward, under the next number. Its dispute is held.
ATTACH: Final[LiteralString] = """
INSERT INTO dispute_evidence (evidence_id, dispute_id, number, personal, sha256, added_by, added_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""

# How many pieces of evidence a dispute has.
COUNT: Final[LiteralString] = "SELECT count(*) FROM dispute_evidence WHERE dispute_id = $1"

# Evidence of some disputes, in the order in which it came.
EVIDENCE: Final[LiteralString] = """
SELECT evidence_id, dispute_id, number, personal, sha256, added_by, added_at FROM dispute_evidence
WHERE dispute_id = ANY ($1::text[]) ORDER BY dispute_id, number
"""

# A dispute has come to its end.
RESOLVE: Final[LiteralString] = """
UPDATE disputes SET state = $2, reason = $3, amount = $4, answer = $5, resolved_by = $6, resolved_at = $7, version = version + 1
WHERE dispute_id = $1
"""

# Disputes, newest first, from where the last page ended.
LIST: Final[LiteralString] = """
SELECT * FROM disputes
WHERE (opened_at, dispute_id) < ($1, $2) AND ($3::text IS NULL OR state = $3) AND ($4::text IS NULL OR kind = $4)
    AND ($5::text IS NULL OR assigned_to = $5) AND ($6::text IS NULL OR order_id = $6)
    AND ($7::text IS NULL OR customer_id = $7)
ORDER BY opened_at DESC, dispute_id DESC LIMIT $8
"""
