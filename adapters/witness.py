"""The only place that asks an independent witness to cosign a checkpoint (C2SP tlog-witness)."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import aiohttp

from orders.checkpoints import parse_size
from orders.errors import CallAnOperator, RetryLater
from orders.failures import FailureType
from orders.note_keys import encoded
from orders.notes import NoteMalformed, parse_signatures

_MOST_ANSWER_BYTES: Final = 65_536
_LATER: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


class WitnessAway(RetryLater):
    """No connection, no answer in time, 5xx, 408, 425 or 429. It may have taken the checkpoint: the next attempt meets a conflict."""

    slug = "witness-away"
    failure = FailureType.SERVICE_UNAVAILABLE


class WitnessConflict(RetryLater):
    """The witness last cosigned a tree of another size than the proof starts from. `size` is that size: prove from there."""

    slug = "witness-conflict"
    failure = FailureType.SERVICE_UNAVAILABLE

    def __init__(self, size: int) -> None:
        super().__init__(f"the witness last cosigned a tree of size {size}: it needs a proof from there")
        self.size = size


class WitnessRefused(CallAnOperator):
    """The witness does not know our log or its key, or found no consistency: the same again cannot help. `status` is its answer's."""

    slug = "witness-refused"
    failure = FailureType.SERVICE_UNAVAILABLE

    def __init__(self, problem: str, status: int | None = None) -> None:
        super().__init__(problem)
        self.status = status


_REASONS: Final[dict[int, str]] = {
    HTTPStatus.BAD_REQUEST: "it cannot read the request",
    HTTPStatus.FORBIDDEN: "it does not know the key that signed the checkpoint",
    HTTPStatus.NOT_FOUND: "it does not know the log",
    HTTPStatus.UNPROCESSABLE_ENTITY: "the tree is not consistent with the one that it cosigned before",
}


async def cosign(url: str, old_size: int, proof: Sequence[bytes], checkpoint_note: str, *, timeout_ms: int) -> str:
    """The witness's signature lines for this checkpoint, to be put below it. They are well-formed; whose they are is not checked.

    `proof` shows that the tree of `old_size`, which the witness cosigned last (0: none yet), is this one's beginning. Raises
    `WitnessAway`, `WitnessConflict`, `WitnessRefused`.
    """
    lines = (f"old {old_size}", *map(encoded, proof), "", checkpoint_note)
    status, answer = await _post(f"{url.rstrip('/')}/add-checkpoint", "\n".join(lines).encode(), timeout_ms)
    text = answer.decode(errors="replace")
    if status == HTTPStatus.OK:
        try:
            parse_signatures(text)
        except NoteMalformed as error:
            raise WitnessRefused(f"the witness answered with what is no signature: {error}", status) from error
        return text
    size = parse_size(text.removesuffix("\n"))
    if status == HTTPStatus.CONFLICT and size is not None:
        raise WitnessConflict(size)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
        raise WitnessAway(f"the witness answered {status}")
    raise WitnessRefused(f"the witness answered {status}: {_REASONS.get(status, 'for no reason that is known here')}", status)


async def _post(url: str, body: bytes, timeout_ms: int) -> tuple[int, bytes]:
    timeout = aiohttp.ClientTimeout(total=timeout_ms / 1_000)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(
                url, data=body, headers={"content-type": "text/plain; charset=utf-8"}, allow_redirects=False
            ) as answer,
        ):
            found = bytearray()
            async for chunk in answer.content.iter_chunked(_MOST_ANSWER_BYTES):
                found += chunk
                if len(found) > _MOST_ANSWER_BYTES:
                    raise WitnessRefused(f"the witness answered with more than {_MOST_ANSWER_BYTES} bytes", answer.status)
            return answer.status, bytes(found)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise WitnessRefused("the address of the witness cannot be used") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise WitnessAway(f"no answer from the witness: {type(error).__name__}") from error
