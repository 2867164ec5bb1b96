"""The only place for the problems of the HTTP interface: one row per `type`, and how each error becomes one (RFC 9457)."""

from typing import Any, Final, NamedTuple

import structlog
from litestar.exceptions import HTTPException, ValidationException
from litestar.plugins.problem_details import ProblemDetailsConfig, ProblemDetailsException, ProblemDetailsPlugin

from orders.errors import AlreadyDone, Invalid, Refuse, RetryLater, RushlineError

BASE: Final = "https://rushline.dev/problems/"
MEDIA_TYPE: Final = "application/problem+json"
_RETRY_AFTER_S: Final = 1
_log = structlog.get_logger()


class Kind(NamedTuple):
    """One problem: its stable slug, the status, the title, and what the caller can do about it."""

    slug: str
    status: int
    title: str
    remedy: str


CATALOGUE: Final[tuple[Kind, ...]] = (
    Kind("malformed-request", 400, "The request cannot be read", "Send what the OpenAPI document at /schema describes."),
    Kind("malformed-json", 400, "The body is not JSON", "Send one JSON object, encoded in UTF-8."),
    Kind("idempotency-key-missing", 400, "Idempotency-Key is missing", 'Send a new UUID, as Idempotency-Key: "…".'),
    Kind("idempotency-key-malformed", 400, "Idempotency-Key cannot be used",
         'Send one quoted string of 1 to 255 printable ASCII characters, as Idempotency-Key: "…".'),
    Kind("bad-signature", 400, "The signature does not match", "Sign the body as it is sent, with the shared secret and the time."),
    Kind("refused", 400, "The request is refused", "Change the request."),
    Kind("unauthenticated", 401, "A valid token is needed", "Send Authorization: Bearer <token> with a token that is still valid."),
    Kind("wrong-role", 403, "This role may not do that", "Use a token with the role that the route is for."),
    Kind("needs-approval", 403, "A second person must approve", "Let another operator approve the edit."),
    Kind("letter-not-found", 404, "There is no such letter", "Take an id from GET /v1/ops/dead-letters."),
    Kind("letter-group-not-found", 404, "There is no such group", "Take a fingerprint from GET /v1/ops/dead-letters/groups."),
    Kind("replay-not-found", 404, "There is no such replay", "Take an id from GET /v1/ops/replays."),
    Kind("edit-not-found", 404, "There is no such edit", "Take an id from GET /v1/ops/edits."),
    Kind("rule-not-found", 404, "There is no such rule", "Take an id from GET /v1/ops/rules; leave version out to write a new one."),
    Kind("dispute-not-found", 404, "There is no such dispute", "Take an id from GET /v1/support/disputes."),
    Kind("not-found", 404, "There is no such thing, or it is not yours", "Check the address and the identifier."),
    Kind("method-not-allowed", 405, "The address does not take this method", "Use a method of the Allow header."),
    Kind("action-not-allowed", 409, "The order's state does not allow this", "Read the order again: it has moved on."),
    Kind("restaurant-closed", 409, "The restaurant is closed", "Order again when it opens, see opens_at."),
    Kind("idempotency-in-flight", 409, "The same request is under way", "Wait for Retry-After, then send it again unchanged."),
    Kind("driver-busy", 409, "The driver carries an order", "Deliver or release it first."),
    Kind("letter-not-open", 409, "The letter is not open", "Read it again: its history says what became of it."),
    Kind("letter-superseded", 409, "The letter was superseded",
         "Nothing is left to do: its order was compensated meanwhile."),
    Kind("letter-moved", 409, "Somebody else has changed the letter", "Read it again, then decide; send its new version."),
    Kind("nothing-matches", 409, "No open letter matches", "List with the same filter to see what there is."),
    Kind("not-replayable", 409, "The message cannot be sent as it is", "Edit it, or discard it."),
    Kind("edit-decided", 409, "The edit is decided", "Read it again: somebody has approved or refused it."),
    Kind("replay-state", 409, "The replay's state does not allow this", "Read it again; what has ended is started anew."),
    Kind("rule-exists", 409, "There is a rule of this name", "Send its version to change it, or give another name."),
    Kind("rule-moved", 409, "Somebody else has changed the rule", "Read it again, then decide; send its new version."),
    Kind("rule-is-shipped", 409, "The rule came with the library", "Switch it or limit it; copy it under another name to change it."),
    Kind("dispute-open", 409, "The order has an open dispute", "Resolve that one first; GET /v1/support/disputes?order_id=… has it."),
    Kind("dispute-resolved", 409, "The dispute is resolved", "Read it again; what is new needs a new dispute."),
    Kind("dispute-moved", 409, "Somebody else has changed the dispute", "Read it again, then decide; send its new version."),
    Kind("evidence-full", 409, "The dispute has all the evidence that it can have", "Resolve it."),
    Kind("refund-above-rest", 409, "More would go back than is left", "Read money in the order's investigation; name less."),
    Kind("no-alternative", 409, "No other restaurant can take the order", "Choose substitutes, or cancel."),
    Kind("entries-dropped", 410, "These entries were dropped after their time", "Their hashes are still served; the signed statement says why."),
    Kind("body-too-large", 413, "The body is too large", "Send less: an order of 50 lines needs under 10 KB."),
    Kind("unsupported-media-type", 415, "The body has the wrong type", "Send Content-Type: application/json."),
    Kind("invalid", 422, "A field cannot be used", "Change the fields that errors names."),
    Kind("unknown-restaurant", 422, "There is no such restaurant", "Take an id from GET /v1/restaurants."),
    Kind("item-unavailable", 422, "An item cannot be ordered", "Take items from the restaurant's menu that are available."),
    Kind("idempotency-key-reused", 422, "Idempotency-Key was used for another request", "Send a new key with a new request."),
    Kind("too-expensive", 422, "The new total is higher than what was paid", "Choose items for the same total or less."),
    Kind("bad-edit", 422, "The edited body is not one that its type takes", "Change what errors names, and send the edit again."),
    Kind("rule-matches-everything", 422, "The rule would be about every letter", "Say in match which failure it mends."),
    Kind("rule-would-loop", 422, "The rule would go in circles", "Bound it by max_generation, or let it change what made it match."),
    Kind("internal", 500, "We failed", "Try again; if it stays, tell support the request_id."),
    Kind("unavailable", 503, "Not possible for now", "Wait for Retry-After, then send the same request again."),
)  # fmt: skip
BY_SLUG: Final = {kind.slug: kind for kind in CATALOGUE}
_BY_STATUS: Final = {
    400: "malformed-request", 401: "unauthenticated", 403: "wrong-role", 404: "not-found", 405: "method-not-allowed",
    413: "body-too-large", 415: "unsupported-media-type", 422: "invalid",
}  # fmt: skip
# Parameters whose names in Python differ from those in the interface.
_SPELLED: Final = {
    "order_state": "state", "dispute_state": "state", "happened_from": "from", "letter_state": "state", "letter_type": "type", "edit_state": "state",
    "last_event_id": "Last-Event-ID", "idempotency_key": "Idempotency-Key",
}  # fmt: skip


class Problem(ProblemDetailsException):
    """An answer with this problem. `errors`: the fields at fault; `more`: further members of the body."""

    def __init__(
        self,
        slug: str,
        detail: str = "",
        *,
        errors: list[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        kind = BY_SLUG[slug]
        extra: dict[str, Any] = {"remedy": kind.remedy} | {k: v for k, v in (more or {}).items() if v is not None}
        if errors:
            extra["errors"] = [{"field": field, "message": message} for field, message in errors]
        super().__init__(
            detail=detail or kind.title,
            status_code=kind.status,
            title=kind.title,
            type_=BASE + slug,
            extra=extra,
            headers=headers,
        )


class Refused(Refuse):
    """A refusal of the gateway's own that carries more members for the body. `slug` names its row."""

    more: dict[str, Any]

    def __init__(self, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.more = more


class InvalidFields(Invalid):
    """Several fields at once."""

    def __init__(self, errors: list[tuple[str, str]]) -> None:
        super().__init__(*errors[0])
        self.errors = errors


def of_ours(error: RushlineError) -> ProblemDetailsException:  # noqa: PLR0911  # one per kind of error
    """The problem for an error of our own tree."""
    match error:
        case InvalidFields():
            return Problem(_slug(error, "invalid"), str(error), errors=error.errors)
        case Invalid():
            return Problem(_slug(error, "invalid"), str(error), errors=[(error.field, error.problem)])
        case Refused():
            headers = {"Retry-After": str(_RETRY_AFTER_S)} if error.slug == "idempotency-in-flight" else None
            return Problem(_slug(error, "refused"), str(error), more=error.more, headers=headers)
        case Refuse():
            return Problem(_slug(error, "refused"), str(error))
        case AlreadyDone():
            return Problem("action-not-allowed", str(error))
        case RetryLater():
            _log.warning("gateway.unavailable", error=str(error), cause=repr(error.__cause__))
            return Problem("unavailable", headers={"Retry-After": str(_RETRY_AFTER_S)})
        case _:
            return unexpected(error)


def _slug(error: RushlineError, otherwise: str) -> str:
    return error.slug if error.slug in BY_SLUG else otherwise


def of_litestar(error: HTTPException) -> ProblemDetailsException:
    """The problem for an error that Litestar raised before or after a handler."""
    if isinstance(error, ValidationException):
        errors = _fields(error.extra)
        if any(field == "data" for field, _ in errors):  # Litestar's word for a body that is not there
            return Problem("malformed-json", "the body is empty")
        return Problem("invalid", errors=errors)
    slug = _BY_STATUS.get(error.status_code)
    if slug is None:
        return unexpected(error)
    headers = dict(error.headers or {})
    if slug == "unauthenticated":
        headers["WWW-Authenticate"] = 'Bearer realm="rushline", error="invalid_token"'
    detail = error.detail if slug == "unauthenticated" else ""
    return Problem(slug, detail, headers=headers or None)


def _fields(extra: Any) -> list[tuple[str, str]]:
    given = [each for each in extra or [] if isinstance(each, dict)]
    keys = [str(each.get("key", "")) for each in given]
    return [(_SPELLED.get(key, key), str(each.get("message", ""))) for key, each in zip(keys, given, strict=True)]


def unexpected(error: Exception) -> ProblemDetailsException:
    """A bug of ours: nothing of it is shown, all of it is logged."""
    _log.error("gateway.unexpected", exc_info=error)
    return Problem("internal")


def plugin() -> ProblemDetailsPlugin:
    """Litestar's own plugin with our errors in its map."""
    return ProblemDetailsPlugin(
        ProblemDetailsConfig(
            exception_to_problem_detail_map={
                HTTPException: of_litestar,
                RushlineError: of_ours,
                Exception: unexpected,
            }
        )
    )
