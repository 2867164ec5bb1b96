"""Every SQL statement with which the archiver speaks to the orders' database."""

from typing import Final, LiteralString

# Whether this was never told before.
FIRST_TIME: Final[LiteralString] = """
INSERT INTO inbox (message_id, done_at) VALUES ($1, $2) ON CONFLICT (message_id) DO NOTHING RETURNING true
"""
