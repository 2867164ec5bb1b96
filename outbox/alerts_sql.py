"""Every SQL statement on alerts."""

from typing import Final, LiteralString

# Raised, or counted once more; one that was cleared begins anew.
RAISE: Final[LiteralString] = """
INSERT INTO alerts AS a (kind, subject, detail, raised_at, last_at) VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (kind, subject) DO UPDATE SET
    detail = excluded.detail, last_at = greatest(a.last_at, excluded.last_at), cleared_at = NULL,
    times = CASE WHEN a.cleared_at IS NULL THEN a.times + 1 ELSE 1 END,
    raised_at = CASE WHEN a.cleared_at IS NULL THEN a.raised_at ELSE excluded.raised_at END
"""

# It is over.
CLEAR: Final[LiteralString] = "UPDATE alerts SET cleared_at = $3 WHERE kind = $1 AND subject = $2 AND cleared_at IS NULL"

# What is not over.
OPEN: Final[LiteralString] = """
SELECT kind, subject, detail, times, raised_at, last_at FROM alerts WHERE cleared_at IS NULL ORDER BY last_at DESC LIMIT 500
"""
