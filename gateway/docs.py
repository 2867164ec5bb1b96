"""The only place for what the OpenAPI document says beside the routes: problems per route, header rules, its own plain page."""

import html
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

from litestar import Request, Router
from litestar.openapi import ResponseSpec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Contact, Example, OpenAPIType, Operation, Parameter, Schema, Tag

from gateway import schemas
from gateway.answers import ProblemBody
from gateway.idempotency import HEADER
from gateway.problems import BASE, CATALOGUE, MEDIA_TYPE
from outbox.letters.matching import Condition, Match
from outbox.letters.rule_model import Action

_TAGS: Final = ("customers", "restaurants", "drivers", "support", "operators", "machines")
_KEY: Final = r'^("[ !#-\[\]-~]{1,255}"|[A-Za-z0-9._~:/+=-]{1,255})$'
_COMMON: Final = (400, 401, 403, 422, 500, 503)


def problems(*statuses: int, common: tuple[int, ...] = _COMMON) -> dict[int, ResponseSpec]:
    """The problems that a route can answer with, beside those that every route with a token can."""
    return {status: _spec(status) for status in sorted({*common, *statuses})}


def _spec(status: int) -> ResponseSpec:
    kinds = [kind for kind in CATALOGUE if kind.status == status]
    examples = [
        Example(
            summary=kind.title,
            value={
                "type": BASE + kind.slug,
                "title": kind.title,
                "status": status,
                "detail": kind.title,
                "remedy": kind.remedy,
            },
        )
        for kind in kinds
    ]
    return ResponseSpec(
        ProblemBody,
        generate_examples=False,
        description="; ".join(kind.slug for kind in kinds),
        media_type=MEDIA_TYPE,
        examples=examples,
    )


@dataclass
class NeedsKey(Operation):
    """An operation whose `Idempotency-Key` is required: its absence has a problem of its own, so Litestar must let it pass."""

    def __post_init__(self) -> None:
        for parameter in self.parameters or ():
            if isinstance(parameter, Parameter) and parameter.name == HEADER:
                parameter.required = True
                parameter.schema = Schema(
                    type=OpenAPIType.STRING, pattern=_KEY, examples=['"8e03978e-40d5-43dd-bc93-6894a57f9324"']
                )


class Document(JsonRenderPlugin):
    """The document as JSON. That unknown fields are refused is the one thing Litestar does not read from a struct."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        strict = {body.__name__ for body in (*_bodies(schemas.Body), Match, Condition, *get_args(Action))}
        for name, schema in openapi_schema["components"]["schemas"].items():
            if name in strict:
                schema["additionalProperties"] = False
        return self.render_json(request, openapi_schema)


def _bodies(base: type[Any]) -> Iterator[type[Any]]:
    for body in base.__subclasses__():
        yield body
        yield from _bodies(body)


class PlainPage(OpenAPIRenderPlugin):
    """The document as one plain page, without scripts and without anything from another host."""

    def render(self, _request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        parts = [
            f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2>{_operation(operation)}</section>"
            for path, methods in openapi_schema["paths"].items()
            for method, operation in methods.items()
            if isinstance(operation, dict)
        ]
        title = html.escape(openapi_schema["info"]["title"])
        return (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
            f"<h1>{title}</h1><p>{html.escape(openapi_schema['info'].get('description', ''))}</p>"
            f"<p><a href=/schema/openapi.json>openapi.json</a></p>{''.join(parts)}"
        ).encode()


def _operation(operation: dict[str, Any]) -> str:
    body = next(iter(operation.get("requestBody", {}).get("content", {}).values()), None)
    answers = "".join(
        f"<dt>{status}</dt><dd>{html.escape(answer.get('description', ''))}</dd>"
        for status, answer in operation.get("responses", {}).items()
    )
    text = html.escape(operation.get("description") or operation.get("summary") or "")
    asked = f"<pre>{html.escape(json.dumps(_example(body), indent=2))}</pre>" if body and _example(body) else ""
    return f"<p>{text}</p>{asked}<dl>{answers}</dl>"


def _example(body: dict[str, Any]) -> Any:
    return next((each.get("value") for each in (body.get("examples") or {}).values()), None)


_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "h2{font-size:1rem;border-top:1px solid #ccc;padding-top:1rem}"
    "pre{background:#f5f5f5;padding:.75rem;overflow:auto}dl{display:grid;grid-template-columns:4rem 1fr}dd{margin:0}"
)


def openapi(version: str) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Rushline",
        version=version,
        description="The order backbone of a food-delivery platform. Errors are problem details (RFC 9457) with stable types.",
        contact=Contact(name="Rushline"),
        tags=[Tag(name=name) for name in _TAGS],
        render_plugins=[PlainPage(path="/"), Document(path="/openapi.json")],
        openapi_router=Router("/schema", route_handlers=[], include_in_schema=False, opt={"exclude_from_auth": True}),
        use_handler_docstrings=True,
    )
