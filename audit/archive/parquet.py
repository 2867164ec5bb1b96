"""The only place that knows how events lie in a Parquet file: sorted by chain and position, with their place in the log beside.

The body is what the tree covers, byte for byte. The other columns are made from it (never from the ledger's own, which nothing
covers) and are there to be searched by.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PART_LEAVES: Final = 65_536  # one file: what is held in memory while it is sorted
GROUP_ROWS: Final = 16_384  # what is read to find one order
_TIME: Final = pa.timestamp("us", "UTC")
SCHEMA: Final = pa.schema(
    [
        pa.field("leaf_index", pa.int64(), nullable=False),
        pa.field("sequenced_at", _TIME, nullable=False),
        pa.field("chain", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("actor_type", pa.string(), nullable=False),
        pa.field("actor_id", pa.string(), nullable=False),
        pa.field("new_state", pa.string()),
        pa.field("occurred_at", _TIME, nullable=False),
        pa.field("body", pa.string(), nullable=False),
    ]
)
_FROM_BODY: Final = tuple(SCHEMA.names[2:])
_WORDS: Final = ["chain", "action", "actor_type", "actor_id", "new_state"]
_NUMBERS: Final = ("leaf_index", "sequenced_at", "position", "occurred_at")
_PAGE_BYTES: Final = 1_048_576
_LEVEL: Final = 1  # of zstd: higher ones take longer and find no more in hashes


class _Actor(msgspec.Struct, frozen=True, gc=False):
    type: str
    id: str


class _Searched(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    event_id: str
    order_id: str | None = None
    chain: str | None = None
    position: int
    action: str
    actor: _Actor
    new_state: str | None = None
    occurred_at: datetime


_DECODER: Final = msgspec.json.Decoder(_Searched)


class Stored(NamedTuple):
    """An event and its place in the log."""

    leaf_index: int
    chain: str
    position: int
    body: bytes


class Bounds(NamedTuple):
    """Between what the events of a file lie."""

    first_chain: str
    last_chain: str
    first_occurred_at: datetime
    last_occurred_at: datetime


def columns_of(bodies: Sequence[bytes]) -> dict[str, Any]:
    """The columns that events are searched by, from their bytes. Raises `msgspec.MsgspecError` for bytes that are no event."""
    events = list(map(_DECODER.decode, bodies))
    actors = list(map(attrgetter("actor"), events))
    values: dict[str, list[Any]] = {
        "chain": [each.chain or each.order_id for each in events],
        **{
            name: list(map(attrgetter(name), events)) for name in ("position", "event_id", "action", "new_state", "occurred_at")
        },
        "actor_type": list(map(attrgetter("type"), actors)),
        "actor_id": list(map(attrgetter("id"), actors)),
    }
    made = {name: pa.array(column, SCHEMA.field(name).type) for name, column in values.items()}
    return {**made, "body": pa.array(bodies, pa.binary()).view(pa.string())}  # canonical JSON is UTF-8


def write(path: Path, start: int, sequenced: Sequence[datetime | int], bodies: Sequence[bytes]) -> Bounds:
    """A file of events that follow each other in the log from leaf `start` on. Times may be in microseconds since 1970."""
    groups = [columns_of(bodies[at : at + GROUP_ROWS]) for at in range(0, len(bodies), GROUP_ROWS)]
    columns = {name: pa.chunked_array([group[name] for group in groups]) for name in _FROM_BODY}
    leaves = pa.array(range(start, start + len(bodies)), pa.int64())
    table = pa.table({"leaf_index": leaves, "sequenced_at": pa.array(sequenced, _TIME), **columns}, schema=SCHEMA)
    order = pc.sort_indices(table, [("chain", "ascending"), ("position", "ascending"), ("leaf_index", "ascending")])
    with pq.ParquetWriter(
        path, SCHEMA, version="2.6", compression="zstd", compression_level=_LEVEL, data_page_size=_PAGE_BYTES,
        use_dictionary=_WORDS, column_encoding=dict.fromkeys(_NUMBERS, "DELTA_BINARY_PACKED"),
        write_statistics=[name for name in SCHEMA.names if name != "body"], write_page_checksum=True,
        bloom_filter_options={"event_id": {"ndv": GROUP_ROWS, "fpp": 0.01}},
    ) as writer:  # fmt: skip
        for at in range(0, len(bodies), GROUP_ROWS):
            writer.write_table(table.take(order.slice(at, GROUP_ROWS)), row_group_size=GROUP_ROWS)
    chains, times = pc.min_max(table["chain"]), pc.min_max(table["occurred_at"])
    first, last = (times[each].as_py().astimezone(UTC) for each in ("min", "max"))
    return Bounds(chains["min"].as_py(), chains["max"].as_py(), first, last)


def open_file(source: Any) -> Any:
    """Such a file, to be read by row groups. Its pages' checksums are verified."""
    return pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=True)


def proven_columns(file: Any) -> Iterator[tuple[list[int], list[bytes], bool]]:
    """Of each row group: the events' leaves, their bytes, and whether the other columns are those of these bytes."""
    for number in range(file.num_row_groups):
        table = file.read_row_group(number)
        bodies = table["body"].cast(pa.binary()).to_pylist()
        try:
            made = columns_of(bodies)
        except (msgspec.MsgspecError, pa.ArrowException):
            same = False
        else:
            same = table.schema.equals(SCHEMA) and all(
                table[name].equals(pa.chunked_array([made[name]])) for name in _FROM_BODY
            )
        yield table["leaf_index"].to_pylist(), bodies, same


def of_chains(file: Any, chains: Sequence[str]) -> list[Stored]:
    """The events of these chains. Row groups that cannot hold any are not read."""
    wanted = pa.array(chains, pa.string())
    found: list[Stored] = []
    for number in range(file.num_row_groups):
        low, high = _bounds(file, number, "chain")
        if any(low <= each <= high for each in chains):
            named = file.read_row_group(number, columns=["chain"])["chain"]
            found += _rows(file, number, pc.is_in(named, value_set=wanted))
    return found


def of_leaves(file: Any, first: int, end: int) -> list[Stored]:
    """The events from one leaf to before another, in the log's order."""
    found: list[Stored] = []
    for number in range(file.num_row_groups):
        low, high = _bounds(file, number, "leaf_index")
        if low < end and first <= high:
            index = file.read_row_group(number, columns=["leaf_index"])["leaf_index"]
            found += _rows(file, number, pc.and_(pc.greater_equal(index, first), pc.less(index, end)))
    return sorted(found)


def at_leaves(file: Any, leaves: Sequence[int]) -> list[Stored]:
    """The events at these leaves."""
    wanted = pa.array(leaves, pa.int64())
    found: list[Stored] = []
    for number in range(file.num_row_groups):
        low, high = _bounds(file, number, "leaf_index")
        if any(low <= each <= high for each in leaves):
            index = file.read_row_group(number, columns=["leaf_index"])["leaf_index"]
            found += _rows(file, number, pc.is_in(index, value_set=wanted))
    return found


def _bounds(file: Any, number: int, column: str) -> tuple[Any, Any]:
    statistics = file.metadata.row_group(number).column(SCHEMA.names.index(column)).statistics
    return statistics.min, statistics.max


def _rows(file: Any, number: int, mask: Any) -> list[Stored]:
    if not pc.any(mask).as_py():
        return []
    table = file.read_row_group(number, columns=["leaf_index", "chain", "position", "body"]).filter(mask)
    bodies = table["body"].cast(pa.binary())
    columns = (table["leaf_index"], table["chain"], table["position"], bodies)
    return [Stored(*row) for row in zip(*(column.to_pylist() for column in columns), strict=True)]
