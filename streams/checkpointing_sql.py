"""Every SQL statement of the audit log's loop."""

from typing import Final, LiteralString

# A process that stalls while it holds the tree is cut off.
PATIENCE: Final[LiteralString] = "SET idle_in_transaction_session_timeout = '10s'"

# What had to be set aside since then.
BROKEN_SINCE: Final[LiteralString] = """
SELECT id, chain, position, reason FROM audit.broken_events WHERE id > $1 AND broken_at > $2 ORDER BY id LIMIT 200
"""
