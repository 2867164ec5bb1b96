"""The only place that knows what can go wrong with the archive, and what pyarrow's errors about it mean to us."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa

from adapters.settings import PREFIX
from orders.errors import CallAnOperator, NotFound, RetryLater
from orders.failures import FailureType

SETTING: Final = f"{PREFIX}ARCHIVE_URL"
# pyarrow tells S3's errors apart in its text alone: `AWS Error NAME`, where NAME is a constant of its SDK.
_AWS_ERROR: Final = re.compile(r"AWS Error ([A-Z_]+)(?: \(HTTP status (\d+)\))?")
_CREDENTIALS: Final = frozenset(
    {
        "ACCESS_DENIED", "SIGNATURE_DOES_NOT_MATCH", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "INVALID_SIGNATURE",
        "UNRECOGNIZED_CLIENT", "MISSING_AUTHENTICATION_TOKEN", "INCOMPLETE_SIGNATURE", "REQUEST_EXPIRED", "NOT_SIGNED",
    }
)  # fmt: skip
_REFUSED_STATUS: Final = frozenset({"401", "403"})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
_NO_FOLDER: Final = frozenset({errno.ENOTDIR, errno.EROFS, errno.EISDIR, errno.ENAMETOOLONG})


class ArchiveUnavailable(RetryLater):
    """The archive does not answer, answers that it is busy, or is full. Whether a put took effect is unknown: put again."""

    slug = "archive-unavailable"
    failure = FailureType.SERVICE_UNAVAILABLE


class BadArchive(CallAnOperator):
    """`RUSHLINE_ARCHIVE_URL` cannot be used: the message says why and what to do."""

    slug = "bad-archive"
    failure = FailureType.SERVICE_UNAVAILABLE

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{SETTING}: {problem}. {remedy}")


class BadArchiveCredentials(BadArchive):
    """The archive knows nobody of these credentials, or does not let them do this."""

    slug = "bad-archive-credentials"


class BadArchiveName(CallAnOperator):
    """A name that the archive does not take: it could leave the archive's folder, or means something to a file system."""

    slug = "bad-archive-name"


class NotInArchive(NotFound):
    """No object has this name."""

    slug = "not-in-archive"


class DamagedObject(CallAnOperator):
    """What the archive holds under this name is not what was put there: truncated, or not readable as what it should be."""

    slug = "damaged-object"


@contextmanager
def typed() -> Iterator[None]:
    """What pyarrow (or the file system) raises in here is raised as one of ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotInArchive("the archive has no such object") from error
    except PermissionError as error:
        raise BadArchive(f"{error.filename or 'its folder'} is closed to this user", "Give the folder to this user.") from error
    except OSError as error:
        raise _meaning(error) from error
    except pa.ArrowException as error:
        raise DamagedObject(f"an object of the archive cannot be read: {error}") from error


def _meaning(error: OSError) -> Exception:
    said = _AWS_ERROR.search(str(error))
    if said is None:
        return _of_a_folder(error)
    name, status = said.groups()
    if name in _CREDENTIALS or status in _REFUSED_STATUS:
        return BadArchiveCredentials(
            f"the archive refused these credentials ({name})",
            "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what they are allowed.",
        )
    if name == "VALIDATION":  # what came is not what its checksum says
        return DamagedObject(f"an object of the archive cannot be read: {error}")
    if name == "NO_SUCH_BUCKET":
        return BadArchive("its bucket is not there", "Make the bucket, or correct the URL.")
    return ArchiveUnavailable(f"the archive answered {name}{f' ({status})' if status else ''}")


def _of_a_folder(error: OSError) -> Exception:
    """A full or failing disk may pass; a file that ends too early, or that is no folder, does not."""
    if error.errno in _FULL:
        return ArchiveUnavailable(f"the archive's disk: {error.strerror}")
    if error.errno in _NO_FOLDER:
        return BadArchive(f"{error.filename} is not a folder, or not to be written: {error.strerror}", "Name another folder.")
    return DamagedObject(f"an object of the archive cannot be read: {error}")
