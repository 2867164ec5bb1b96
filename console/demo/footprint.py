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
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return None
    cpu = (int(stat[_UTIME]) + int(stat[_STIME])) / _TICKS
    return Footprint(round(cpu, 2), round(pages * _PAGE / 2**20, 1))
