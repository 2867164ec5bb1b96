"""The only place that reads Stripe's form encoding: `metadata[order_id]=…`, `expand[0]=…` into nested values."""

from urllib.parse import parse_qsl

from simulation.provider.refusals import Refusal, invalid

Form = dict[str, "str | dict[str, str]"]

_MOST_FIELDS = 200


def parse_form(text: str) -> Form:
    """One level of nesting, which is all that the implemented calls use. Lists keep their indices as keys.

    Raises a 400 `Refusal` for what cannot be read.
    """
    form: Form = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise invalid("Invalid request body: it is not form-encoded.") from error
    for name, value in pairs:
        outer, bracket, rest = name.partition("[")
        if not bracket:
            form[outer] = value
            continue
        inner = form.setdefault(outer, {})
        if not isinstance(inner, dict):
            raise invalid(f"Invalid parameter: {outer}", param=outer)
        key = rest.removesuffix("]")
        inner[key or str(len(inner))] = value
    return form


def text_of(form: Form, name: str) -> str | None:
    """A plain field, or None where it is absent or empty."""
    value = form.get(name)
    if isinstance(value, dict):
        raise invalid(f"Invalid string: {name}", param=name)
    return value or None


def map_of(form: Form, name: str) -> dict[str, str]:
    value = form.get(name, {})
    if isinstance(value, str):
        raise invalid(f"Invalid object: {name}", param=name)
    return value


def minor_of(form: Form, name: str) -> int | None:
    """An amount in minor units, 1 to 99,999,999 as Stripe has it."""
    text = text_of(form, name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 8 and int(text) > 0):
        raise invalid(f"Invalid integer: {name}", code="parameter_invalid_integer", param=name)
    return int(text)


def require(value: str | int | None, name: str) -> Refusal | None:
    return None if value is not None else invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)


def only(form: Form, known: frozenset[str]) -> None:
    """Raises as Stripe does for a parameter that the call does not have."""
    for name in form:
        if name not in known:
            raise invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
