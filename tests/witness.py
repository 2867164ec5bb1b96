"""The only place where tests start an independent witness: litewitness of filippo.io/torchwood, as it is, on loopback.

It takes its key from an ssh-agent, and its logs from two tables of its database: what `witnessctl add-log` and `add-key` write,
a command that cannot be built from the module proxy alone.
"""

import asyncio
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from orders.merkle import EMPTY_ROOT
from orders.note_keys import encoded
from tests.go import built
from tests.making import eventually

NAME = "witness.example/rushline"
_VKEY = re.compile(r'msg="verifier key" vkey=(\S+)')


@dataclass(frozen=True)
class Witness:
    """Where it listens, and the key of its cosignatures."""

    url: str
    vkey: str


@asynccontextmanager
async def witness(logs: Mapping[str, str]) -> AsyncIterator[Witness]:
    """A witness that has never seen these logs, and knows of each its origin and verifier's key."""
    program = await asyncio.to_thread(built, "witness", "filippo.io/torchwood/cmd/litewitness")
    if shutil.which("ssh-agent") is None:
        raise RuntimeError("the witness takes its key from an ssh-agent: apt-get install openssh-client")
    with tempfile.TemporaryDirectory(prefix="witness-") as name:
        folder = Path(name)
        _register(folder / "witness.db", logs)
        with _running(["ssh-agent", "-D", "-a", str(folder / "agent.sock")], folder / "agent.log"):
            fingerprint = await _key_in_agent(folder)
            address = ("127.0.0.1", _free_port())
            command = [
                str(program), "-name", NAME, "-db", str(folder / "witness.db"), "-ssh-agent", str(folder / "agent.sock"),
                "-key", fingerprint, "-listen", f"{address[0]}:{address[1]}",
            ]  # fmt: skip
            with _running(command, folder / "witness.log"):
                await eventually(lambda: _answers(*address))
                said = _VKEY.search((folder / "witness.log").read_text())
                assert said is not None
                yield Witness(f"http://{address[0]}:{address[1]}", said[1])


def _register(database: Path, logs: Mapping[str, str]) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL)")
        connection.execute(
            "CREATE TABLE key (origin TEXT NOT NULL, key TEXT NOT NULL, FOREIGN KEY(origin) REFERENCES log(origin))"
        )
        for origin, vkey in logs.items():
            connection.execute("INSERT INTO log VALUES (?, 0, ?)", (origin, encoded(EMPTY_ROOT)))
            connection.execute("INSERT INTO key VALUES (?, ?)", (origin, vkey))


async def _key_in_agent(folder: Path) -> str:
    """Hands a new key to the agent; the key's fingerprint."""

    async def there() -> None:
        assert (folder / "agent.sock").exists(), (folder / "agent.log").read_text()

    key = str(folder / "key")
    _done(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    await eventually(there)
    _done(["ssh-add", "-q", key], SSH_AUTH_SOCK=str(folder / "agent.sock"))
    return _done(["ssh-keygen", "-l", "-f", key]).split()[1]


def _done(command: Sequence[str], **environment: str) -> str:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def _answers(host: str, port: int) -> None:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise AssertionError(f"nothing listens on {host}:{port}") from error
    writer.close()
    await writer.wait_closed()
