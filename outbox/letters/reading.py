"""The only place that turns rows about letters into what the code knows them as."""

import msgspec

from adapters.postgres import Record
from outbox.letters.model import Group, Letter


def as_letter(row: Record) -> Letter:
    """A row of `dead_letters`."""
    return msgspec.convert(dict(row), Letter)


def as_group(row: Record) -> Group:
    """A row of `letter_groups`."""
    return msgspec.convert(dict(row), Group)
