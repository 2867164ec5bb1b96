"""The only place that reads which letters are meant from a query string, and whether a change is only to be tried."""

from datetime import datetime
from typing import Annotated, Final, TypeAlias

import msgspec
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter, SkipValidation

from gateway.bodies import locate
from gateway.ops_schemas import FilterBody, filter_of
from orders.errors import Invalid
from orders.failures import Category, FailureType
from outbox.letters.model import LetterFilter, LetterState

_WORD: Final = 200

DryRun: TypeAlias = Annotated[bool, QueryParameter(description="Check and answer as if it were done, and change nothing.")]


async def _wanted(
    letter_state: Annotated[LetterState | None, QueryParameter(name="state", description="In this state only.")] = None,
    fingerprint: Annotated[str | None, QueryParameter(max_length=_WORD, description="Of this group.")] = None,
    failure_type: Annotated[FailureType | None, QueryParameter(description="With this failure.")] = None,
    category: Annotated[Category | None, QueryParameter(description="Of this category.")] = None,
    consumer: Annotated[str | None, QueryParameter(max_length=_WORD, description="A work queue, or a stream's group.")] = None,
    letter_type: Annotated[
        str | None, QueryParameter(name="type", max_length=_WORD, description="A command or fact, like payment.charge.")
    ] = None,
    order_id: Annotated[str | None, QueryParameter(max_length=_WORD, description="Of this order.")] = None,
    message_id: Annotated[str | None, QueryParameter(max_length=_WORD, description="Of this message.")] = None,
    owner: Annotated[str | None, QueryParameter(max_length=_WORD, description="Looked after by this person.")] = None,
    words: Annotated[str | None, QueryParameter(max_length=_WORD, description="Words of the error, reason or message.")] = None,
    failed_from: Annotated[datetime | None, QueryParameter(description="Last failed at this time or later.")] = None,
    failed_before: Annotated[datetime | None, QueryParameter(description="Last failed before this time.")] = None,
) -> LetterFilter:
    given = {
        "state": letter_state, "fingerprint": fingerprint, "failure_type": failure_type, "category": category,
        "consumer": consumer, "type": letter_type, "order_id": order_id, "message_id": message_id, "owner": owner,
        "words": words,
    }  # fmt: skip
    try:
        checked = msgspec.convert({name: value for name, value in given.items() if value is not None}, FilterBody)
    except msgspec.ValidationError as error:
        field, message = locate(str(error))
        raise Invalid(field, message) from error
    return filter_of(msgspec.structs.replace(checked, failed_from=failed_from, failed_before=failed_before), under="")


Wanted: TypeAlias = NamedDependency[SkipValidation[LetterFilter]]
WANTED: Final = {"wanted": Provide(_wanted)}
