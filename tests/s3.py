"""The only place where tests get an S3 server: versitygw, built from its Go module on first use, over a folder of its own.

A machine without Go is a failure, never a skip. `python -m tests.s3` builds it ahead: that takes minutes, once.
"""

import fcntl
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from pyarrow import fs

from adapters.process import leash
from stack.ports import LOOPBACK, Ports, answers
from tests.go import go

VERSION: Final = "v1.8.0"
MODULE: Final = "github.com/versity/versitygw/cmd/versitygw"
CACHE: Final = Path(__file__).parent.parent / "var" / "cache"
REGION: Final = "us-east-1"
BUCKET: Final = "rushline"
PATIENCE_S: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A server that answers, with an empty bucket. Its one user may do everything."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    folder: Path  # where its objects are files: what is damaged there is damaged in S3
    process: "subprocess.Popen[bytes]"

    @property
    def environ(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def url(self, prefix: str = "", *, bucket: str | None = None, who: str = "") -> str:
        """The bucket as `RUSHLINE_ARCHIVE_URL` names it; `who` is `key:secret` where it shall carry credentials."""
        options = urlencode({"scheme": "http", "endpoint_override": self.endpoint, "region": REGION})
        return f"s3://{f'{who}@' if who else ''}{bucket or self.bucket}/{prefix}?{options}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """It takes connections and says nothing: what a hung server looks like."""
        self.process.send_signal(signal.SIGSTOP)


def binary() -> Path:
    """The server, built once for all runs; its module is verified against Go's checksum database."""
    built = CACHE / f"versitygw-{VERSION}"
    if built.is_file():
        return built
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "versitygw.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.is_file():
            _build(built)
    return built


def _build(built: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="versitygw-", dir=built.parent) as draft:
        environ = {**os.environ, "GOBIN": draft, "CGO_ENABLED": "0"}
        done = subprocess.run(
            [go(), "install", f"{MODULE}@{VERSION}"], env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"Go could not build versitygw {VERSION}, the S3 server of the archive's tests:\n{done.stderr[-2_000:]}"
            )
        (Path(draft) / "versitygw").rename(built)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server of one's own on a free port, gone with its data afterwards, and also where the tests are killed."""
    program, port = binary(), Ports.free().postgres
    key, secret = f"key{secrets.token_hex(8)}", secrets.token_hex(20)
    with tempfile.TemporaryDirectory(prefix="rushline-s3-") as home:
        folder = Path(home) / "data"
        folder.mkdir()
        command = [*leash(), str(program), "--port", f"{LOOPBACK}:{port}", "--region", REGION, "--quiet", "posix", str(folder)]
        environ = {"ROOT_ACCESS_KEY": key, "ROOT_SECRET_KEY": secret, "HOME": home}
        with (Path(home) / "log").open("wb") as log, subprocess.Popen(command, env=environ, stdout=log, stderr=log) as process:
            try:
                _wait(process, port, Path(home) / "log")
                _make_bucket(f"{LOOPBACK}:{port}", key, secret)
                yield S3Server(
                    endpoint=f"{LOOPBACK}:{port}", access_key=key, secret_key=secret, bucket=BUCKET, folder=folder / BUCKET,
                    process=process,
                )  # fmt: skip
            finally:
                process.kill()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not answers(port):
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"the S3 server did not start (exit code {process.poll()}):\n{log.read_text()[-2_000:]}")
        time.sleep(0.02)


def _make_bucket(endpoint: str, key: str, secret: str) -> None:
    fs.S3FileSystem(
        access_key=key, secret_key=secret, endpoint_override=endpoint, scheme="http", region=REGION, allow_bucket_creation=True
    ).create_dir(BUCKET)


if __name__ == "__main__":
    print(binary())  # noqa: T201 - what it is for
