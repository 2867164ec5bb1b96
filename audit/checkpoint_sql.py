"""Every SQL statement on the Merkle tree over the ledger, and on the checkpoints that are served."""

from typing import Final, LiteralString

# How far the tree is, held until the transaction ends; no row while somebody else is at it.
HOLD_TREE: Final[LiteralString] = "SELECT size, root FROM audit.tree FOR UPDATE SKIP LOCKED"

# How far the tree is.
TREE: Final[LiteralString] = "SELECT size, root FROM audit.tree"

# Events that are no leaves of the tree yet, in the log's order.
NEW_LEAVES: Final[LiteralString] = """
SELECT leaf_index, body FROM audit.events WHERE leaf_index >= $1 ORDER BY leaf_index LIMIT $2
"""

# These tiles, as long as they are by now.
TILES: Final[LiteralString] = """
SELECT t.level, t.index, t.hashes FROM audit.tiles t
JOIN unnest($1::smallint[], $2::bigint[]) AS wanted (level, index) USING (level, index)
"""

# New tiles, and longer versions of those that grow.
PUT_TILES: Final[LiteralString] = """
INSERT INTO audit.tiles AS t (level, index, hashes) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])
ON CONFLICT (level, index) DO UPDATE SET hashes = excluded.hashes WHERE length(excluded.hashes) > length(t.hashes)
"""

# The tree has grown.
GROW: Final[LiteralString] = "UPDATE audit.tree SET size = $1, root = $2"

# A signed checkpoint, for whoever asks over HTTP.
KEEP: Final[LiteralString] = """
INSERT INTO audit.checkpoints (size, root, note, signed_at) VALUES ($1, $2, $3, $4) ON CONFLICT (size) DO NOTHING
"""

# The newest checkpoint that is served.
NEWEST: Final[LiteralString] = "SELECT note FROM audit.checkpoints ORDER BY size DESC LIMIT 1"
