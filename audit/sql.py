"""Every SQL statement that writes the audit ledger."""

from typing import Final, LiteralString

# A process that stalls while it holds the sequence is cut off; its standby goes on, and it reads its offsets again.
PATIENCE: Final[LiteralString] = "SET idle_in_transaction_session_timeout = '10s'"

# This week's partition of the ledger and the next three.
PREPARE: Final[LiteralString] = "SELECT audit.maintain_events(3)"

# What the next event of each of these chains must link to.
HEADS: Final[LiteralString] = """
SELECT chain, position, encode(hash, 'hex') AS hash, broken_at FROM audit.heads WHERE chain = ANY ($1::text[])
"""

# The next places in the log, ours until the transaction ends.
TAKE_LEAVES: Final[LiteralString] = "SELECT first_leaf, sequenced_at FROM audit.take_leaves($1)"

# Where these chains are now.
MOVE_HEADS: Final[LiteralString] = """
INSERT INTO audit.heads (chain, position, hash, broken_at)
SELECT h.chain, h.position, decode(h.hash, 'hex'), h.broken_at
FROM unnest($1::text[], $2::integer[], $3::text[], $4::integer[]) AS h (chain, position, hash, broken_at)
ON CONFLICT (chain) DO UPDATE SET position = excluded.position, hash = excluded.hash,
    broken_at = coalesce(heads.broken_at, excluded.broken_at)
"""

# Events that do not fit, as they came.
SET_ASIDE: Final[LiteralString] = """
INSERT INTO audit.broken_events (chain, position, reason, body)
SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::bytea[]) ON CONFLICT DO NOTHING
"""

# Which of these are in the ledger, or set aside, with the very same bytes.
KNOWN: Final[LiteralString] = """
SELECT n.ordinal FROM unnest($1::text[], $2::integer[], $3::bytea[]) WITH ORDINALITY AS n (chain, position, body, ordinal)
WHERE EXISTS (SELECT FROM audit.events e WHERE e.chain = n.chain AND e.position = n.position AND e.body = n.body)
   OR EXISTS (SELECT FROM audit.broken_events b WHERE b.chain = n.chain AND b.position = n.position
              AND b.digest = sha256(n.body))
"""
