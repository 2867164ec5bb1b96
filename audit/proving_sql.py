"""Every SQL statement that reads events to prove them, or to serve the log."""

from typing import Final, LiteralString

# Where an event is in the log.
FIND: Final[LiteralString] = "SELECT leaf_index, body FROM audit.events WHERE event_id = $1 ORDER BY leaf_index LIMIT 1"

# A page of a log's bundle of entries.
BUNDLE: Final[LiteralString] = """
SELECT leaf_index, body FROM audit.events WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index
"""

# Whether some of these leaves were dropped after their time.
DROPPED: Final[LiteralString] = """
SELECT EXISTS (SELECT FROM audit.archives WHERE state = 'dropped' AND first_leaf < $2 AND end_leaf > $1)
"""
