"""The only place that remembers answers by idempotency key: replayed as they were, refused with other parameters, forgotten."""

from collections.abc import Iterator

import msgspec

from simulation.provider.entries import Answered
from simulation.provider.refusals import KEY_IN_USE, OTHER_PARAMETERS

DAY_S = 86_400.0


class Keys:
    """Answers by key. `ttl_s` is on the wall clock; a key that is older is as if it had never been used."""

    def __init__(self, ttl_s: float = DAY_S) -> None:
        self.ttl_s = ttl_s
        self._answers: dict[str, Answered] = {}
        self._running: dict[str, str] = {}

    def begin(self, key: str, fingerprint: str, now: float) -> Answered | None:
        """The stored answer, or None: then the caller executes and ends with `finish` or `release`.

        Raises a `Refusal`: 400 when the key came with other parameters, 409 while its first request still runs.
        """
        self._forget(now)
        known = self._answers.get(key)
        if (known.fingerprint if known else self._running.get(key, fingerprint)) != fingerprint:
            raise OTHER_PARAMETERS
        if known is not None:
            return known
        if key in self._running:
            raise KEY_IN_USE
        self._running[key] = fingerprint
        return None

    def finish(self, key: str, status: int, body: bytes, now: float) -> Answered:
        answer = Answered(now, key, self._running.pop(key), status, msgspec.Raw(body))
        self.remember(answer)
        return answer

    def release(self, key: str) -> None:
        """The request was not executed (validation, rate limit): the key is free again."""
        self._running.pop(key, None)

    def remember(self, answer: Answered) -> None:
        self._answers.pop(answer.key, None)  # re-inserted at the end: the dictionary stays in order of age
        self._answers[answer.key] = answer

    def _forget(self, now: float) -> None:
        for key in list(self._expired(now)):
            del self._answers[key]

    def _expired(self, now: float) -> Iterator[str]:
        for key, answer in self._answers.items():
            if answer.at + self.ttl_s > now:
                return
            yield key
