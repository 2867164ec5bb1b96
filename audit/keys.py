"""The only place that keeps the log's keys: private ones in a file that only their owner reads, public ones in one for all.

A rotation makes a new key and lets the one before sign beside it for a while, so that whoever knows only the old key learns of
the new one in time. Public keys are kept for ever: old checkpoints are verified with them.
"""

import os
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from adapters.settings import Settings
from orders.errors import CallAnOperator
from orders.note_keys import parse_skey
from orders.notes import Signer, Verifier
from orders.notes import sign as sign_note
from orders.signing import new_skey, signer, verifier, vkey_of

OVERLAP: Final = timedelta(days=30)
_PUBLIC: Final = "verifier-keys"
_JSON: Final = msgspec.json.Encoder(order="deterministic")


class KeysMissing(CallAnOperator):
    """There is no usable key for a log that has been signed before: restore the file, never make another."""

    slug = "log-keys-missing"


class _Entry(msgspec.Struct, frozen=True):
    """`until`: from when on it signs no more. None: the newest key."""

    signer: str
    since: datetime
    until: datetime | None = None


class PublicKey(msgspec.Struct, frozen=True):
    """A verifier key in signed-note form, and when its private half signs (or signed)."""

    vkey: str
    since: datetime
    until: datetime | None = None


class Keys:
    """The keys of one log."""

    def __init__(self, origin: str, entries: Sequence[_Entry]) -> None:
        self.origin, self._entries = origin, tuple(entries)

    @property
    def public(self) -> list[PublicKey]:
        """All that ever signed, the newest first."""
        return [PublicKey(vkey_of(entry.signer), entry.since, entry.until) for entry in self._entries]

    @property
    def verifiers(self) -> list[Verifier]:
        return [verifier(key.vkey) for key in self.public]

    def signers(self, at: datetime) -> list[Signer]:
        """Who signs now: the newest key, and those before it whose time is not over."""
        return [signer(entry.signer) for entry in self._entries if entry.until is None or entry.until > at]

    def sign_text(self, text: str, at: datetime) -> str:
        """The text as a signed note. The same text at the same keys makes the same note."""
        return sign_note(text, *self.signers(at))


def path_of(settings: Settings) -> Path:
    return Path(settings.audit_keys_file) if settings.audit_keys_file else settings.audit_folder / "keys"


def load(settings: Settings) -> Keys:
    """The log's keys. Raises `KeysMissing`, which names the file and what to do."""
    path = path_of(settings)
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[_Entry])
        names = {parse_skey(entry.signer).name for entry in entries}
    except FileNotFoundError as error:
        raise KeysMissing(
            f"there is no key file {path}. RUSHLINE_AUDIT_KEYS_FILE names it; restore it from its backup"
        ) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise KeysMissing(f"the key file {path} cannot be read ({type(error).__name__}); restore it from its backup") from error
    if names != {settings.audit_origin}:
        raise KeysMissing(
            f"the keys in {path} are of {', '.join(sorted(names)) or 'nobody'}, and RUSHLINE_AUDIT_ORIGIN is {settings.audit_origin}"
        )
    return Keys(settings.audit_origin, entries)


def make(settings: Settings, at: datetime) -> Keys:
    """The first key of a log that nobody has signed yet; where another process was quicker, its key."""
    path = path_of(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [_Entry(new_skey(settings.audit_origin), at)]
    draft = _draft(path, entries)
    try:
        os.link(draft, path)  # not a rename: that would replace the key of whoever was quicker
    except FileExistsError:
        return load(settings)
    finally:
        draft.unlink()
    _publish(path, entries)
    return Keys(settings.audit_origin, entries)


def rotate(settings: Settings, at: datetime, overlap: timedelta = OVERLAP) -> Keys:
    """A new key; the one before signs beside it until the overlap is over. Raises `KeysMissing`."""
    load(settings)
    path = path_of(settings)
    old = msgspec.json.decode(path.read_bytes(), type=list[_Entry])
    ended = [msgspec.structs.replace(entry, until=entry.until or at + overlap) for entry in old]
    entries = [_Entry(new_skey(settings.audit_origin), at), *ended]
    _draft(path, entries).replace(path)
    _publish(path, entries)
    return Keys(settings.audit_origin, entries)


def public_keys(settings: Settings) -> list[PublicKey]:
    """The verifier keys, for whoever must not read private ones. Raises `KeysMissing`."""
    path = path_of(settings).with_name(_PUBLIC)
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[PublicKey])
    except (OSError, msgspec.MsgspecError) as error:
        raise KeysMissing(f"the verifier keys {path} cannot be read; give one with --key, or restore the file") from error


def _draft(path: Path, entries: Sequence[_Entry]) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(_JSON.encode(entries))
        file.flush()
        os.fsync(file.fileno())
    return draft


def _publish(path: Path, entries: Sequence[_Entry]) -> None:
    draft = path.with_name(f".{_PUBLIC}.{secrets.token_hex(4)}")
    draft.write_bytes(_JSON.encode(Keys("", entries).public))
    draft.replace(path.with_name(_PUBLIC))
