"""Every SQL statement that finds things by the beginning of their names. Where a name is given whole, its index answers."""

from typing import Final, LiteralString

# Ids are of digits and letters up to f, so that `$1 || 'zzzz'` comes after all that begin with $1 in any collation.
LETTERS: Final[LiteralString] = """
SELECT letter_id AS name FROM dead_letters
WHERE letter_id BETWEEN $1 AND $1 || 'zzzz' AND starts_with(letter_id, $1) ORDER BY letter_id LIMIT $2
"""

# The same for groups.
GROUPS: Final[LiteralString] = """
SELECT fingerprint AS name FROM letter_groups
WHERE fingerprint BETWEEN $1 AND $1 || 'zzzz' AND starts_with(fingerprint, $1) ORDER BY fingerprint LIMIT $2
"""

# The same for edits.
EDITS: Final[LiteralString] = """
SELECT edit_id AS name FROM letter_edits
WHERE edit_id BETWEEN $1 AND $1 || 'zzzz' AND starts_with(edit_id, $1) ORDER BY edit_id LIMIT $2
"""

# The same for replays.
REPLAYS: Final[LiteralString] = """
SELECT replay_id AS name FROM letter_replays
WHERE replay_id BETWEEN $1 AND $1 || 'zzzz' AND starts_with(replay_id, $1) ORDER BY replay_id LIMIT $2
"""
