"""The only place that reads and writes the archive: a folder (`file://`) or a bucket (`s3://`), the same to its caller.

A name is visible with all of its bytes or not at all. A small object is one atomic put; a streamed file is written under
`.drafts/`, which no listing shows, and then takes its name. (Closing pyarrow's S3 stream after a failed read would publish the
half of it, and so would the garbage collector: a stream never writes to a name that anybody reads.)
"""

import asyncio
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from pyarrow import fs

from adapters.archive_errors import ArchiveUnavailable, BadArchive, BadArchiveName, DamagedObject, NotInArchive, typed

Answer = TypeVar("Answer")
Names: TypeAlias = list[str]

DRAFTS: Final = ".drafts"
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9._=+@-]*"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_LONGEST_NAME: Final = 512
_CONNECT_S: Final = 2.0
_REQUEST_S: Final = 10.0
_ATTEMPTS: Final = 2
_CALL_S: Final = 30.0
_FILE_S: Final = 600.0
_CHUNK_BYTES: Final = 4 * 1_048_576
_S3_OPTIONS: Final = frozenset({"endpoint_override", "scheme", "region"})


class ArchiveStore:
    """Objects by name. Every call is bounded in time and raises the errors above, whatever is behind.

    `filesystem` with `path(name)` is for `pyarrow.dataset` and duckdb, which read where the objects are; wrap what they do in
    `archive_errors.typed()`, so that their errors are ours.
    """

    def __init__(
        self, filesystem: Any, root: str, folder: Path | None, *, call_s: float = _CALL_S, file_s: float = _FILE_S
    ) -> None:
        self.filesystem = filesystem
        self._root, self._folder = root, folder
        self._call_s, self._file_s = call_s, file_s

    @classmethod
    async def open(
        cls, url: str, environ: Mapping[str, str] | None = None, *, call_s: float = _CALL_S, file_s: float = _FILE_S
    ) -> Self:
        """The archive at this URL, looked at once. Raises `BadArchive`, `BadArchiveCredentials`, `ArchiveUnavailable`."""
        scheme = url.partition("://")[0]
        if scheme == "file":
            folder = _folder_of(url)
            store = cls(fs.LocalFileSystem(), str(folder), folder, call_s=call_s, file_s=file_s)
        elif scheme == "s3":
            filesystem, root = _bucket_of(url, os.environ if environ is None else environ)
            store = cls(filesystem, root, None, call_s=call_s, file_s=file_s)
        else:
            raise BadArchive("it names no archive", "Give file:///a/folder or s3://bucket/prefix.")
        await store._bounded(store._look)
        return store

    def path(self, name: str) -> str:
        """Where `filesystem` finds this name. Raises `BadArchiveName`."""
        if len(name) > _LONGEST_NAME or _NAME.fullmatch(name) is None:
            raise BadArchiveName(f"{name[:80]!r} is no name for the archive: letters, digits and ._=+@- between single slashes")
        return f"{self._root}/{name}"

    async def put(self, name: str, data: bytes) -> None:
        """Store these bytes under this name, in place of what was there. On return they are on disk, or acknowledged by S3."""
        path = self.path(name)
        await self._bounded(self._put_local if self._folder else self._put_s3, path, data)

    async def put_file(self, name: str, source: Path) -> None:
        """The same, streamed from a file. Raises `OSError` where the file itself cannot be read."""
        path = self.path(name)
        with source.open("rb") as file:
            await self._bounded(self._stream_local if self._folder else self._stream_s3, path, file, limit_s=self._file_s)

    async def get(self, name: str, *, size: int | None = None) -> bytes:
        """All of it. Raises `NotInArchive`, and `DamagedObject` where it is not of the size that the caller knows."""
        data = await self._bounded(self._get, self.path(name))
        if size is not None and len(data) != size:
            raise DamagedObject(f"{name} has {len(data)} bytes where {size} were put")
        return data

    async def size(self, name: str) -> int:
        """Raises `NotInArchive`."""
        info = await self._bounded(self._info, self.path(name))
        if info is None:
            raise NotInArchive(f"{name} is not in the archive")
        return int(info.size)

    async def exists(self, name: str) -> bool:
        return await self._bounded(self._info, self.path(name)) is not None

    async def list(self, prefix: str = "") -> Names:
        """Every name below this folder of names (`""`: all), sorted. None where there is no such folder."""
        path = self.path(prefix.rstrip("/")) if prefix else self._root
        return await self._bounded(self._list, path)

    async def delete(self, name: str) -> None:
        """Forget it. No error where it is gone already."""
        await self._bounded(self._delete, self.path(name))

    async def open_input(self, name: str) -> Any:
        """A file to read Parquet from, by ranges. Raises `NotInArchive`."""
        return await self._bounded(self.filesystem.open_input_file, self.path(name))

    async def _bounded(self, call: Callable[..., Answer], *words: Any, limit_s: float | None = None) -> Answer:
        """A blocking call in a thread, for at most so long. A call that is given up goes on and is not heard any more."""
        try:
            async with asyncio.timeout(limit_s or self._call_s):
                return await asyncio.to_thread(_in_our_errors, call, *words)
        except TimeoutError as error:
            raise ArchiveUnavailable(f"the archive did not answer within {limit_s or self._call_s:g} s") from error

    def _look(self) -> None:
        if self._folder is not None:
            (self._folder / DRAFTS).mkdir(parents=True, exist_ok=True)
            return
        bucket = self._root.partition("/")[0]
        if self.filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
            raise BadArchive(
                f"there is no bucket {bucket!r}, or none that these credentials may see",
                "Make the bucket, or correct the URL or AWS_ACCESS_KEY_ID.",
            )

    def _info(self, path: str) -> Any:
        info = self.filesystem.get_file_info(path)
        return info if info.type == fs.FileType.File else None

    def _get(self, path: str) -> bytes:
        with self.filesystem.open_input_stream(path, compression=None) as stream:
            data: bytes = stream.read()
        return data

    def _list(self, path: str) -> Names:
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        names = (info.path.removeprefix(f"{self._root}/") for info in self.filesystem.get_file_info(selector) if info.is_file)
        return sorted(name for name in names if not name.startswith(f"{DRAFTS}/"))

    def _delete(self, path: str) -> None:
        try:
            self.filesystem.delete_file(path)
        except FileNotFoundError:
            return
        if self._folder is not None:
            _flush(Path(path).parent)

    def _put_s3(self, path: str, data: bytes) -> None:
        with self.filesystem.open_output_stream(path, compression=None) as stream:
            stream.write(data)

    def _stream_s3(self, path: str, source: Any) -> None:
        draft = f"{self._root}/{DRAFTS}/{uuid.uuid4().hex}"
        try:
            with self.filesystem.open_output_stream(draft, compression=None) as stream:
                shutil.copyfileobj(source, stream, _CHUNK_BYTES)
            self.filesystem.copy_file(draft, path)
        finally:
            self._delete(draft)

    def _put_local(self, path: str, data: bytes) -> None:
        with _named_when_whole(self._root, path) as file:
            file.write(data)

    def _stream_local(self, path: str, source: Any) -> None:
        with _named_when_whole(self._root, path) as file:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)


def _in_our_errors(call: Callable[..., Answer], *words: Any) -> Answer:
    with typed():
        return call(*words)


def _folder_of(url: str) -> Path:
    parts = urlsplit(url)
    folder = Path(unquote(parts.path))
    if (
        parts.netloc not in {"", "localhost"}
        or not folder.is_absolute()
        or parts.query
        or parts.fragment
        or ".." in folder.parts
    ):
        raise BadArchive(f"{url!r} is not a folder", "Give file:/// and an absolute path, and nothing after it.")
    return folder


def _bucket_of(url: str, environ: Mapping[str, str]) -> tuple[Any, str]:
    """The file system, and `bucket/prefix`. What the URL does not say of credentials is in the usual two variables."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        key = unquote(parts.username or "") or environ.get("AWS_ACCESS_KEY_ID", "")
        secret = unquote(parts.password or "") or environ.get("AWS_SECRET_ACCESS_KEY", "")
    except ValueError as error:
        raise BadArchive(
            "the URL cannot be read", "Give s3://bucket/prefix?region=…, keys with / or + percent-encoded."
        ) from error
    if unknown := sorted(set(options) - _S3_OPTIONS):
        raise BadArchive(f"there is no option {unknown[0]!r}", f"There are {', '.join(sorted(_S3_OPTIONS))}.")
    root = f"{parts.netloc.rpartition('@')[2]}/{unquote(parts.path).strip('/')}".rstrip("/")
    if _NAME.fullmatch(root) is None:
        raise BadArchive("it names no bucket", "Give s3://bucket/prefix, with plain letters and digits.")
    if not (key and secret):
        raise BadArchive("there are no credentials", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    filesystem = fs.S3FileSystem(
        access_key=key,
        secret_key=secret,
        session_token=None if parts.username else environ.get("AWS_SESSION_TOKEN"),
        region=options.get("region", "us-east-1"),
        scheme=options.get("scheme", "https"),
        endpoint_override=options.get("endpoint_override"),
        allow_delayed_open=True,  # what is small is one request, not the three of a multipart upload
        connect_timeout=_CONNECT_S,
        request_timeout=_REQUEST_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )
    return filesystem, root


@contextmanager
def _named_when_whole(root: str, path: str) -> Iterator[Any]:
    """A new file that gets its name when it is complete and on disk, and whose name is on disk before this returns."""
    draft = Path(root) / DRAFTS / uuid.uuid4().hex
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _make_folders(Path(root), Path(path).parent)
        draft.rename(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    _flush(Path(path).parent)


def _make_folders(root: Path, folder: Path) -> None:
    """Each missing folder, and its name on disk in the one above."""
    if folder == root or folder.is_dir():
        return
    _make_folders(root, folder.parent)
    folder.mkdir(exist_ok=True)
    _flush(folder.parent)


def _flush(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
