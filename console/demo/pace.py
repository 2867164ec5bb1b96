"""The only place that decides how many orders a second the demonstration lets come, on the machine at hand."""

import hashlib
import os
import socket
import time
from typing import Final

import msgspec

RUSH: Final = 40.0  # orders a second in the rush, where the machine can do that
_PER_CORE: Final = 9.0  # with the servers, the outside world and the faults on it: an order costs some 100 ms of processor
_USUAL_HASHES: Final = 850_000.0  # of 800 bytes a second, on each core while all of them are busy
_HASHING_S: Final = 0.15
SHARE_OUTSIDE: Final = 0.35  # of the rush, before and after it
# An order is some hundred short conversations between processes, so what one costs decides how many orders fit. Ten to
# thirty microseconds are usual; virtual machines within virtual machines take sixty and more.
_USUAL_US: Final = 33.0
_TALKS: Final = 2_000
_LOOKS: Final = 3


class Pace(msgspec.Struct, frozen=True):
    """Orders a second outside the rush and within it; `slowness`: what a conversation costs, 1 for the usual price; `strength`: what
    a core does while all are busy, 1 for the usual (two threads of one core, or a shared machine, do less).

    `why` the rush is smaller than usual, as a sentence; empty where it is not, or was asked for.
    """

    rate: float
    peak: float
    slowness: float
    strength: float
    why: str = ""


def busy_strength(cores: int) -> float:
    """How much of the usual each core does while all of them work, at most 1."""
    ours, theirs = os.pipe()
    children = []
    for _ in range(cores):
        child = os.fork()
        if child == 0:
            os.write(theirs, _hashes().to_bytes(8, "big"))
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    counted = sum(int.from_bytes(os.read(ours, 8), "big") for _ in children)
    os.close(ours)
    os.close(theirs)
    return min(1.0, counted / _HASHING_S / cores / _USUAL_HASHES)


def _hashes() -> int:
    done, body, ends = 0, b"x" * 800, time.perf_counter() + _HASHING_S
    while time.perf_counter() < ends:
        for _ in range(200):
            hashlib.sha256(body).digest()
        done += 200
    return done


def talk_us() -> float:
    """Microseconds for a word to another process and its answer."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        for _ in range(_TALKS):
            theirs.send(theirs.recv(1))
        os._exit(0)
    began = time.perf_counter()
    for _ in range(_TALKS):
        ours.send(b"?")
        ours.recv(1)
    took = time.perf_counter() - began
    os.waitpid(child, 0)
    ours.close()
    theirs.close()
    return took / _TALKS * 1e6


def choose(rate: float | None, peak: float | None) -> Pace:
    """What was asked for, else the usual rush, or less of it where this machine is small, or slow today.

    A rush beyond what the machine can do measures the queue in front of it, not the system.
    """
    slowness = round(max(1.0, min(talk_us() for _ in range(_LOOKS)) / _USUAL_US), 2)
    cores = os.cpu_count() or 1
    strength = round(max(busy_strength(cores) for _ in range(_LOOKS)), 2)
    rush = peak or round(min(RUSH, _PER_CORE * cores * strength) / slowness, 1)
    reasons = [f"it has {cores} cores"] * (_PER_CORE * cores < RUSH)
    reasons += [f"a core does {strength:.0%} of the usual while all are busy"] * (strength < 1)
    reasons += [f"its processes talk {slowness:g} times slower than usual"] * (slowness > 1)
    why = f" The rush is smaller than {RUSH:g} on this machine: {' and '.join(reasons)}." if rush < RUSH and not peak else ""
    return Pace(rate or round(rush * SHARE_OUTSIDE, 1), rush, slowness, strength, why)
