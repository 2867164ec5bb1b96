"""The routes by which anyone reads and watches the audit log: C2SP tlog-tiles. Hashes and checkpoints are open, entries an auditor's.

A narrower tile is a prefix of the stored one, so that every tree that was ever signed can be read for ever.
"""

import gzip
from typing import Any, Final

from litestar import Response, Router, get
from litestar.params import FromPath

from audit import proving_sql as sql
from audit import tree
from audit.signing import newest
from gateway.auth import only
from gateway.context import Gate, HttpRequest
from orders.errors import Invalid, NotFound, Refuse
from orders.merkle import HASH_BYTES
from orders.names import Role
from orders.tiles import WIDTH, Tile, bundle, parse_tile_path

_OPEN: Final = {"exclude_from_auth": True}
_BYTES: Final = "application/octet-stream"
_FOR_EVER: Final = "max-age=31536000, immutable"
_BRIEFLY: Final = "public, max-age=1"
_LAST_INDEX: Final = 2**55 - 1
_LEAST_ZIPPED: Final = 1_024


class NoSuchTile(NotFound):
    """The log has no such tile, or not yet one so wide."""

    slug = "not-found"


class EntriesDropped(Refuse):
    """These entries were dropped after their time; their hashes stay."""

    slug = "entries-dropped"


@get("/checkpoint", opt=_OPEN)
async def checkpoint(gateway: Gate) -> Response[str]:
    """The newest signed checkpoint."""
    async with gateway.reading("the checkpoint cannot be read") as conn:
        note = await newest(conn)
    if note is None:
        raise NoSuchTile("the log was never signed")
    return Response(note, media_type="text/plain", headers={"Cache-Control": _BRIEFLY})


@get("/tile/{level:str}/{rest:path}", opt=_OPEN)
async def hashes(gateway: Gate, level: FromPath[str], rest: FromPath[str]) -> Response[bytes]:
    """Hashes of the tree."""
    tile = _tile(f"tile/{level}{rest}")
    async with gateway.reading("the tile cannot be read") as conn:
        found = await tree.tiles(conn, [(tile.level, tile.index)])
    data = found.get((tile.level, tile.index), b"")
    if len(data) < tile.width * HASH_BYTES:
        raise NoSuchTile(f"the log has {len(data) // HASH_BYTES} hashes of this tile")
    headers = {"Cache-Control": f"public, {_FOR_EVER}"}
    return Response(data[: tile.width * HASH_BYTES], media_type=_BYTES, headers=headers)


@get("/tile/entries/{rest:path}", guards=[only(Role.AUDITOR)])
async def entries(gateway: Gate, request: HttpRequest, rest: FromPath[str]) -> Response[bytes]:
    """Events themselves, each behind its length. They are everybody's: for auditors alone."""
    tile = _tile(f"tile/entries{rest}")
    first, last = tile.index * WIDTH, tile.index * WIDTH + tile.width
    async with gateway.reading("the entries cannot be read") as conn:
        size = (await tree.head(conn)).size
        rows = await conn.fetch(sql.BUNDLE, first, last) if last <= size else []
        if last <= size and len(rows) < tile.width and await conn.fetchval(sql.DROPPED, first, last):
            raise EntriesDropped(
                "these entries were dropped after their time, with a signed statement; their hashes are still served"
            )
    found = {row["leaf_index"]: row["body"] for row in rows}
    if len(found) < tile.width and last <= size and gateway.archive is not None:
        found |= await gateway.archive.leaves(first, last)
    if sorted(found) != list(range(first, last)):
        raise NoSuchTile("the log has not all of these entries here")
    return _packed(request, bundle([found[leaf] for leaf in range(first, last)]))


def _packed(request: HttpRequest, data: bytes) -> Response[bytes]:
    headers: dict[str, Any] = {
        "Cache-Control": f"private, {_FOR_EVER}", "Vary": "Accept-Encoding, Authorization", "X-Content-Type-Options": "nosniff",
    }  # fmt: skip
    if len(data) > _LEAST_ZIPPED and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        data = gzip.compress(data, compresslevel=5, mtime=0)
    return Response(data, media_type=_BYTES, headers=headers)


def _tile(path: str) -> Tile:
    try:
        tile = parse_tile_path(path)
    except Invalid as error:
        raise NoSuchTile(error.problem) from error
    if tile.index > _LAST_INDEX:
        raise NoSuchTile("no log is so large")
    return tile


router = Router("/audit/log", route_handlers=[checkpoint, hashes, entries], tags=["auditors"], include_in_schema=False)
