"""The only place that says which letters are of one kind."""

import hashlib
import re
from typing import Final

_DIGITS: Final = 16
_FRAME: Final = re.compile(r'File "[^"]*?([^/"]+)", line \d+, in (\S+)')


def fingerprint(consumer: str, kind: str, failure_type: str, error: str, stack: str = "") -> str:
    """The same for the same trouble of the same consumer with the same type of message, whatever the ids in its words.

    Of a stack, only the innermost frame's file and function count: line numbers move with every release.
    """
    frames = _FRAME.findall(stack)
    innermost = "/".join(frames[-1]) if frames else ""
    parts = f"{consumer}\x00{kind}\x00{failure_type}\x00{error}\x00{innermost}"
    return hashlib.sha256(parts.encode()).hexdigest()[:_DIGITS]
