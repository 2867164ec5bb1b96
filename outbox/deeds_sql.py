"""Every SQL statement on the chains of what is no step of an order."""

from typing import Final, LiteralString

# Where a chain is, locked until the transaction ends; a new one begins at its beginning.
LOCK_CHAIN: Final[LiteralString] = """
INSERT INTO audit_chains AS c (chain, position, head) VALUES ($1, 0, $2)
ON CONFLICT (chain) DO UPDATE SET position = c.position RETURNING position, head
"""

# Where it is now.
MOVE_CHAIN: Final[LiteralString] = "UPDATE audit_chains SET position = $2, head = $3 WHERE chain = $1"
