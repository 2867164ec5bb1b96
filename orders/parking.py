"""The only place for the headers that a message carries once it has failed, whoever moves it and whoever reads it.

They are beside the CloudEvents attributes; the body is never touched. Values are texts.
"""

from typing import Final

ATTEMPTS: Final = "rushline-attempts"  # how often it failed and spent an attempt
FIRST_FAILED_AT: Final = "rushline-first-failed-at"
LAST_FAILED_AT: Final = "rushline-last-failed-at"
LAST_ERROR: Final = "rushline-last-error"  # the error's class
LAST_MESSAGE: Final = "rushline-last-error-message"
LAST_SLUG: Final = "rushline-last-error-slug"
FAILURE: Final = "rushline-failure"  # a FailureType
STACK: Final = "rushline-stack"  # cut; only for failures that nobody has named
CONSUMER: Final = "rushline-consumer"  # the work queue, or the group of a stream
REASON: Final = "rushline-reason"  # why it was parked: a slug
PARKED_AT: Final = "rushline-parked-at"
QUARANTINED_AT: Final = "quarantined_at"

# Where a fact was read, when a stream parks it.
TOPIC: Final = "rushline-topic"
PARTITION: Final = "rushline-partition"
OFFSET: Final = "rushline-offset"
HELD_IN: Final = "rushline-held-in"  # the schema of the table that holds it

# On a message that was sent again: the letter it was, its replay, its edit.
LETTER: Final = "rushline-letter"
REPLAY: Final = "rushline-replay"
EDIT: Final = "rushline-edit"

# Of an outbox row: how long its message lives in the tier that it is published to. Becomes the expiration, and is not sent.
WAIT_MS: Final = "rushline-wait-ms"

PREFIX: Final = "rushline-"
