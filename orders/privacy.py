"""The only place where personal data of the audit trail is encrypted: per customer, with a key that can be destroyed.

AES-256-SIV (RFC 5297): the same data at the same place makes the same bytes, so that an event made again is the same event,
and no nonce can be used twice. The place (chain and position) is authenticated with it: a value cannot be moved elsewhere.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from orders.errors import CallAnOperator, Refuse
from orders.ids import new_id

KEY_BITS: Final = 512  # two AES-256 keys
_JSON: Final = msgspec.json.Encoder(order="deterministic")


class Erased(Refuse):
    """The key of this data was destroyed: it cannot be read any more, by anybody."""

    slug = "erased"


class Undecipherable(CallAnOperator):
    """Personal data that its key does not open: it was changed, or belongs to another place."""

    slug = "undecipherable"


class PersonalKey(msgspec.Struct, frozen=True):
    """A customer's key. Never logged, never in a message."""

    key_id: str
    key: bytes

    def __repr__(self) -> str:
        return f"PersonalKey({self.key_id!r})"


def new_key() -> PersonalKey:
    return PersonalKey(new_id("key"), AESSIV.generate_key(KEY_BITS))


def conceal(key: PersonalKey, chain: str, position: int, data: Mapping[str, Any]) -> dict[str, str]:
    """What an audit event carries of this data under `personal`. Deterministic."""
    sealed = AESSIV(key.key).encrypt(_JSON.encode(data), _place(key.key_id, chain, position))
    return {"data": base64.b64encode(sealed).decode(), "key_id": key.key_id}


def reveal(key: PersonalKey, chain: str, position: int, personal: Mapping[str, Any]) -> dict[str, Any]:
    """The data again. Raises `Undecipherable`."""
    try:
        sealed = base64.b64decode(str(personal["data"]), validate=True)
        found: dict[str, Any] = msgspec.json.decode(AESSIV(key.key).decrypt(sealed, _place(key.key_id, chain, position)))
    except (InvalidTag, KeyError, ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise Undecipherable(f"the personal data of {chain} at {position} is not what was written there") from error
    return found


def _place(key_id: str, chain: str, position: int) -> list[bytes]:
    return [b"rushline/personal/v1", key_id.encode(), chain.encode(), str(position).encode()]
