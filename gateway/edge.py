"""The only place where a request is given its id and trace, counted and timed: around Litestar, so that no answer is missed."""

import re
import secrets
import time
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import uuid4

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Counter, Histogram

from orders.envelope import new_traceparent

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:~-]{1,128}")
_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_REQUESTS: Final = Counter("rushline_http_requests", "Requests by route and status.", ["method", "route", "status"])
_SECONDS: Final = Histogram(
    "rushline_http_request_seconds",
    "Time from the request's headers to the answer's first byte.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10),
)
_METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})


class Arrival(NamedTuple):
    """What a request is known by, in answers, logs and the record of what it caused."""

    request_id: str
    traceparent: str


@lru_cache(maxsize=1024)
def _counter(method: str, route: str, status: int) -> Any:
    return _REQUESTS.labels(method, route, str(status))


@lru_cache(maxsize=256)
def _histogram(method: str, route: str) -> Any:
    return _SECONDS.labels(method, route)


def arrival_of(headers: list[tuple[bytes, bytes]]) -> Arrival:
    """The caller's own request id and trace where they are well formed, else new ones."""
    request_id = traceparent = ""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            request_id = value.decode()
        elif name == b"traceparent" and (match := _TRACEPARENT.fullmatch(value)):
            traceparent = f"00-{match[1].decode()}-{secrets.token_hex(8)}-{match[2].decode()}"
    return Arrival(request_id or str(uuid4()), traceparent or new_traceparent())


class Edge:
    """The outermost ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        arrival = arrival_of(scope["headers"])  # type: ignore[arg-type]  # a list in every server
        scope["rushline"] = arrival  # type: ignore[typeddict-unknown-key]  # read by gateway/context.py
        echoed = [(b"x-request-id", arrival.request_id.encode()), (b"traceparent", arrival.traceparent.encode())]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *echoed]
                _count(scope, message["status"], time.perf_counter() - started)
            await send(message)

        await self._app(scope, receive, answer)


def _count(scope: Any, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "other"
    route = scope.get("path_template") or "none"
    _counter(method, route, status).inc()
    _histogram(method, route).observe(seconds)
