"""The only place that reads a JSON body: strictly, once, into its struct, with the field at fault named."""

import re
from collections.abc import Generator, Hashable
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from gateway.problems import Problem

T = TypeVar("T")
_PATH: Final = re.compile(r"^(.*?)(?: - at `(?:key in )?\$\.?(.*)`)?$", re.DOTALL)
_MISSING: Final = re.compile(r"(?:missing required|contains unknown) field `(.*)`", re.DOTALL)


@lru_cache
def _decoder(model: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cast("type[Any]", model))


def read(model: type[T], body: bytes, content_type: str) -> T:
    """The body as its struct. Raises `Problem`: unsupported-media-type, malformed-json, invalid."""
    if content_type and content_type.partition(";")[0].strip().lower() != "application/json":
        raise Problem("unsupported-media-type", f"{content_type[:100]!r} is not application/json")
    try:
        return cast("T", _decoder(cast("Hashable", model)).decode(body))
    except msgspec.ValidationError as error:
        field, message = locate(str(error))
        raise Problem("invalid", f"{field or 'The body'}: {message}", errors=[(field, message)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem("malformed-json", str(error)) from error
    except RecursionError as error:
        raise Problem("malformed-json", "the body is nested too deeply") from error


def locate(text: str) -> tuple[str, str]:
    """Where the body is wrong, as a path like `items[0].quantity`, and how."""
    match = _PATH.match(text)
    message, path = (match[1], match[2] or "") if match else (text, "")
    if named := _MISSING.search(message):
        path = f"{path}.{named[1]}" if path else named[1]
    return path, message


class Json(AbstractDTO[T]):
    """Litestar's hook for bodies, without its own conversion: that one is lax (`"1"` for 1) and slower."""

    def decode_bytes(self, value: bytes) -> Any:
        return read(self.model_type, value, self.asgi_connection.headers.get("content-type", ""))

    @classmethod
    def create_for_field_definition(cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None) -> None:
        """Nothing to prepare."""

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,  # noqa: ARG003  # the hook's own signature
        schema_creator: Any,
    ) -> Reference | Schema:
        schema: Reference | Schema = schema_creator.for_field_definition(field_definition)
        return schema

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        raise NotImplementedError(model_type)

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        raise NotImplementedError(field_definition)
