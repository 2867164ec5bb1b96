"""The only place that spells Stripe's errors: their types, codes, HTTP statuses and JSON shape."""

from typing import Final

import msgspec

JSON = dict[str, object]


class Refusal(Exception):  # noqa: N818  # Stripe calls them errors; here they are answers
    """An answer other than 200. `stored` says whether the idempotency key remembers it (validation is not remembered)."""

    def __init__(self, status: int, error: JSON, *, stored: bool) -> None:
        super().__init__(error.get("message"))
        self.status, self.error, self.stored = status, error, stored

    def body(self) -> bytes:
        return msgspec.json.encode({"error": self.error})


def invalid(message: str, *, code: str | None = None, param: str | None = None, status: int = 400) -> Refusal:
    error = {"type": "invalid_request_error", "code": code, "param": param, "message": message}
    return Refusal(status, {k: v for k, v in error.items() if v is not None}, stored=False)


def missing(kind: str, name: str, *, param: str, status: int = 404) -> Refusal:
    return invalid(f"No such {kind}: '{name}'", code="resource_missing", param=param, status=status)


def unexpected_state(intent: JSON, doing: str) -> Refusal:
    message = f"You cannot {doing} this PaymentIntent because it has a status of {intent['status']}."
    error: JSON = {"type": "invalid_request_error", "code": "payment_intent_unexpected_state", "message": message}
    return Refusal(400, {**error, "payment_intent": intent}, stored=True)


def refund_refused(code: str, message: str) -> Refusal:
    return Refusal(400, {"type": "invalid_request_error", "code": code, "message": message}, stored=True)


BAD_KEY: Final = Refusal(401, {"type": "invalid_request_error", "message": "Invalid API Key provided."}, stored=False)
OTHER_PARAMETERS: Final = Refusal(
    400,
    {
        "type": "idempotency_error",
        "message": "Keys for idempotent requests can only be used with the same parameters they were first used with.",
    },
    stored=False,
)
KEY_IN_USE: Final = Refusal(
    409,
    {
        "type": "invalid_request_error",
        "code": "idempotency_key_in_use",
        "message": "There is currently another in-progress request using this Idempotency Key.",
    },
    stored=False,
)
TOO_MANY: Final = Refusal(
    429,
    {"type": "invalid_request_error", "code": "rate_limit", "message": "Too many requests hit the API too quickly."},
    stored=False,
)
BROKEN: Final = Refusal(500, {"type": "api_error", "message": "An unknown error occurred."}, stored=True)
