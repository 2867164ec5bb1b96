"""The only place where tests get a PostgreSQL with TimescaleDB: Debian's packages of its release 13, unpacked into a cache.

Debian 12 has no TimescaleDB, so the packages (and the libraries that they were built for) come by this machine's own apt from its
own mirror, are unpacked and not installed, and run by their own loader: neither root nor a container is asked for. A machine whose
apt cannot have them fails the tests, never skips them, unless it says `RUSHLINE_TEST_TIMESCALE=none`; the header of the run then
says what was left out. `python -m tests.timescale` fetches ahead: 45 MB, once.
"""

import asyncio
import fcntl
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from adapters.postgres import connect
from adapters.settings import PREFIX, Settings, load_settings
from outbox.migrations import migrate
from stack import postgres, secrets
from stack.place import Place
from stack.ports import Ports

CHOICE: Final = f"{PREFIX}TEST_TIMESCALE"
CHOSEN: Final = os.environ.pop(CHOICE, "")  # no setting of the product, which refuses names that it does not know
FLAVOURS: Final = ("plain",) if CHOSEN == "none" else ("plain", "timescale")
RELEASE: Final = "trixie"
PACKAGES: Final = ("postgresql-17", "postgresql-17-timescaledb")
BINARIES: Final = Path("usr/lib/postgresql/17/bin")
# Libraries, the server, its client, time zones. The rest of what they depend on (a compiler, Perl, system users) is not run here.
NEEDED: Final = re.compile(r"(?!lib(llvm|z3|perl|pam-modules)|lib.*-perl$)(lib|postgresql-(client-)?17|tzdata)")
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MINE: Final = Path(__file__).parent.parent / "var" / "cache"
SYSTEM_WIDE: Final = Path("/var/cache/rushline")  # where PostgreSQL's user reaches it, if the clone is closed to that user
WITH: Final = {"shared_preload_libraries": "timescaledb", "timescaledb.telemetry_level": "off"}


if CHOSEN not in {"", "none"}:
    raise RuntimeError(f"{CHOICE} is {CHOSEN!r}: give none, or nothing")


class NoTimescaleError(Exception):
    """TimescaleDB is not to be had on this machine. Says why, and how to go without."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"no TimescaleDB here: {why}. Run the tests where apt reaches a Debian mirror with {RELEASE}, or leave out "
            f"TimescaleDB, and nothing else, by {CHOICE}=none"
        )


@contextmanager
def timescale() -> Iterator[Settings]:
    """A server of one's own with the extension in its database, migrated, and the settings that reach it by each role."""
    with tempfile.TemporaryDirectory(prefix="rushline-timescale-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        place, ports = Place.of(home, home), Ports.free()
        place.prepare()
        known = secrets.keep(place.secrets)
        try:
            postgres.start(place, ports, known, binaries=binaries(), also=WITH)
            reached = {**secrets.settings(known, ports), f"{PREFIX}HOME": folder}
            settings = load_settings(reached, local=Path(os.devnull))
            asyncio.run(_prepare(settings))
            yield settings
        finally:
            postgres.stop(place, at_once=True)
            postgres.purge(place)


async def _prepare(settings: Settings) -> None:
    async with connect(settings.migrate_url, service="tests") as owner:
        await owner.execute("CREATE EXTENSION timescaledb")
    await migrate(settings.migrate_url)


def binaries() -> Path:
    """The folder of `postgres`, unpacked once for all runs."""
    MINE.mkdir(parents=True, exist_ok=True)
    cache = MINE if postgres.reachable(MINE, postgres.server_user()) else SYSTEM_WIDE
    cache.mkdir(parents=True, exist_ok=True)
    whole = cache / f"timescaledb-{RELEASE}"
    with (cache / "timescaledb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.is_dir():
            draft = cache / f"timescaledb-{RELEASE}.new"
            shutil.rmtree(draft, ignore_errors=True)
            _unpack(draft, whole)
            draft.rename(whole)
    return whole / BINARIES


def _unpack(draft: Path, whole: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoTimescaleError("there is no apt-get")
    draft.mkdir(mode=0o755)
    with tempfile.TemporaryDirectory(prefix="rushline-apt-") as folder:
        apt = Path(folder)
        environ = _private_apt(apt)
        wanted = ["-y", "--no-install-recommends", "--print-uris", *PACKAGES]
        listed = re.findall(r"^'\S+' ([^_\s]+)_", _run(["apt-get", "-qq", "install", *wanted], environ, apt), re.MULTILINE)
        names = [name for name in listed if NEEDED.match(name)]
        _run(["apt-get", "-q", "download", *names], environ, apt)
        for package in sorted(apt.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(draft)], environ, apt)
    for program in ("postgres", "initdb", "psql"):
        _by_its_own_loader(draft, whole, program)


def _by_its_own_loader(draft: Path, whole: Path, program: str) -> None:
    """A script in the program's place: this machine's loader and libraries are older than those that it was built for."""
    libraries = Path("usr/lib") / f"{platform.machine()}-linux-gnu"
    loader = next((draft / libraries).glob("ld-linux-*.so.*")).name
    real = (draft / BINARIES / program).rename(draft / BINARIES / f"{program}.real").name
    words = [
        f'"{whole / libraries / loader}"',
        '--argv0 "$0"',
        f'--library-path "{whole / libraries}"',
        f'"{whole / BINARIES / real}"',
    ]
    script = draft / BINARIES / program
    script.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
    script.chmod(0o755)


def _private_apt(folder: Path) -> dict[str, str]:
    """An apt that knows one release of one mirror and no installed package; how it gets through to the mirror is the machine's."""
    for name in ("lists/partial", "archives/partial", "state"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {RELEASE} main\n")
    places = {
        "Dir::State": "state", "Dir::State::lists": "lists", "Dir::State::status": "status", "Dir::Cache": "",
        "Dir::Cache::archives": "archives", "Dir::Etc::sourcelist": "sources.list",
    }  # fmt: skip
    lines = [f'{name} "{folder / place}";' for name, place in places.items()]
    lines += [
        f'{name} "/dev/null";' for name in ("Dir::Etc::sourceparts", "Dir::Etc::preferences", "Dir::Etc::preferencesparts")
    ]
    lines += [
        'Acquire::Languages "none";',
        'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";',
        'Debug::NoLocking "true";',
    ]
    if os.geteuid() == 0:
        lines.append('APT::Sandbox::User "root";')
    (folder / "apt.conf").write_text("\n".join(lines) + "\n")
    environ = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C.UTF-8"}
    _run(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"], environ, folder)
    return environ


def _mirror() -> str:
    """Where this machine gets its own Debian release from."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    said = _run(["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"], os.environ)
    sites = [line.split()[0] for line in said.splitlines() if line.split()[1:] == [codename, "main"]]
    if not sites:
        raise NoTimescaleError("apt's sources name no mirror of this machine's own release")
    return sites[0]


def _run(command: list[str], environ: Mapping[str, str], folder: Path | None = None) -> str:
    done = subprocess.run(
        command, env=environ, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        words = "\n".join(f"    {line}" for line in (done.stdout + done.stderr).splitlines()[-6:])
        raise NoTimescaleError(f"`{' '.join(command[:3])} …` failed:\n{words}\n")
    return done.stdout


if __name__ == "__main__" and "timescale" in FLAVOURS:
    print(binaries())  # noqa: T201 - what it is for
