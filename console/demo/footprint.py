"""The only place that says what the processes cost: processor seconds and memory, read from /proc where there is one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_UTIME: Final = 11  # fields after the command's closing bracket, proc(5)
_STIME: Final = 12


class Footprint(msgspec.Struct, frozen=True):
    """One process since it began: seconds of processor time, resident memory in MiB now."""

    cpu_s: float
    rss_mib: float


def footprints(pids: Mapping[str, int]) -> dict[str, Footprint]:
    """Those that can be read; a process that has gone is left out."""
    found = {name: _footprint(pid) for name, pid in pids.items()}
    return {name: each for name, each in sorted(found.items()) if each is not None}


def _footprint(pid: int) -> Footprint | None:
    """The process and its children. Pages that they share are counted once, with the process itself."""
    try:
        family = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        stats = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in family]
        pages = [list(map(int, Path(f"/proc/{each}/statm").read_text().split())) for each in family]
    except OSError:
        return None
    cpu = sum(int(stat[field]) for stat in stats for field in (_UTIME, _STIME)) / _TICKS
    own = pages[0][1] + sum(resident - shared for _, resident, shared, *_ in pages[1:])
    return Footprint(round(cpu, 2), round(own * _PAGE / 2**20, 1))
