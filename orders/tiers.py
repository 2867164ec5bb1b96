"""The only place for the delay tiers: where what has failed waits, and how long. One tuple."""

from typing import Final

import msgspec


class Tier(msgspec.Struct, frozen=True):
    """A queue in which messages wait, all equally long. `wait_s` is business time. Its exchange has the same name."""

    name: str
    wait_s: int


TIERS: Final = (Tier("orders.retry.1m", 60), Tier("orders.retry.5m", 300), Tier("orders.retry.15m", 900))
