"""The only place that decides what goes wrong, and when: by a hash of seed, key and count, so that a seed is a behaviour."""

import hashlib
import math
import struct
from collections import Counter
from statistics import NormalDist
from typing import Annotated, Literal

import msgspec

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Duration = Annotated[float, msgspec.Meta(ge=0, le=3_600_000)]
Outage = Literal["500", "timeout", "refuse"]


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The knobs, by flag at start and by `POST /_sim/behaviour` later. Rates are probabilities from 0 to 1 per request."""

    latency_median_ms: Duration = 60.0
    latency_sigma: Rate = 0.4  # of the lognormal: p99 is about 2.5 times the median
    lost_answer_rate: Rate = 0.0  # executed, then the answer is lost: half dropped, half silent for `hang_s`
    error_before_rate: Rate = 0.0  # 500 and nothing was done
    error_after_rate: Rate = 0.0  # 500 although it was done
    rate_limit_rate: Rate = 0.0  # 429 and nothing was done
    hang_s: Duration = 8.0  # how long a silent answer stays silent before the connection is dropped
    outage: Outage | None = None
    until_s: Duration | None = None  # the outage ends by itself after so many seconds; None: when told


class Plan(msgspec.Struct, frozen=True):
    """What will happen to one request. `fault` is None where all goes well."""

    latency_s: float = 0.0
    fault: str | None = None
    executes: bool = True
    ending: Literal["answer", "drop", "hang", "500", "429"] = "answer"


_UNIT = 2.0**64


class Faults:
    """Seeded decisions. The n-th request of a token meets the same fate under the same seed and behaviour."""

    def __init__(self, seed: int, behaviour: Behaviour | None = None) -> None:
        self._seed = seed
        self._seen: Counter[str] = Counter()
        self._outage_ends_at: float | None = None
        self.injected: Counter[str] = Counter()
        self.behaviour = behaviour or Behaviour()

    def change(self, behaviour: Behaviour, now: float) -> None:
        """Behave so from now on; an outage's `until_s` counts from `now`."""
        if behaviour.outage != self.behaviour.outage or behaviour.until_s != self.behaviour.until_s:
            self._outage_ends_at = None if behaviour.until_s is None else now + behaviour.until_s
        self.behaviour = behaviour

    def outage(self, now: float) -> Outage | None:
        """The outage that is on now, if any."""
        over = self._outage_ends_at is not None and now >= self._outage_ends_at
        return None if over else self.behaviour.outage

    def plan(self, token: str, *, writes: bool, now: float) -> Plan:
        """The fate of this request. `token` is its idempotency key, else its method and path."""
        self._seen[token] += 1
        digest = hashlib.blake2b(f"{self._seed}|{token}|{self._seen[token]}".encode(), digest_size=24).digest()
        latency, fate, coin = (number / _UNIT for number in struct.unpack(">3Q", digest))
        plan = self._fate(self._latency_s(latency), fate, coin >= 0.5, writes, self.outage(now))
        if plan.fault:
            self.injected[plan.fault] += 1
        return plan

    def _latency_s(self, uniform: float) -> float:
        b = self.behaviour
        if b.latency_median_ms <= 0:
            return 0.0
        z = NormalDist().inv_cdf(min(max(uniform, 1e-9), 1 - 1e-9))
        return b.latency_median_ms / 1_000 * math.exp(b.latency_sigma * z)

    def _fate(self, latency_s: float, fate: float, heads: bool, writes: bool, outage: Outage | None) -> Plan:  # noqa: FBT001
        b = self.behaviour
        match outage:
            case "500":
                return Plan(latency_s, "outage_500", executes=False, ending="500")
            case "timeout":
                return Plan(latency_s, "outage_timeout", executes=heads, ending="hang")
            case "refuse":
                return Plan(0.0, "outage_refuse", executes=False, ending="drop")
            case None:
                pass
        fates = [
            (b.error_before_rate, Plan(latency_s, "error_before", executes=False, ending="500")),
            (b.rate_limit_rate, Plan(0.0, "rate_limit", executes=False, ending="429")),
        ]
        if writes:
            fates += [
                (b.lost_answer_rate, Plan(latency_s, "lost_answer", ending="hang" if heads and b.hang_s > 0 else "drop")),
                (b.error_after_rate, Plan(latency_s, "error_after", ending="500")),
            ]
        for rate, plan in fates:
            if fate < rate:
                return plan
            fate -= rate
        return Plan(latency_s)
