"""The only place that says what must happen after a failure: the root of every error of ours.

RushlineError
├── Refuse          the caller is wrong: answered with 4xx, or the business path of a refusal; never tried again
│   ├── NotAllowed        the lifecycle has no such action from here
│   ├── NotFound          no such thing, or not yours
│   ├── Invalid           a field cannot be used; names it
│   ├── NoteRefused       a signed note cannot be read or trusted; says where and why
│   └── ProofError        a proof does not show what it claims; says what is wrong with it
├── RetryLater      the world is wrong for now: wait, then the same again
│   ├── LostRace          somebody else moved the order: start again from the load
│   ├── DependencyDown    all of a dependency is away: back into the queue, no attempt is spent
│   └── PeerAway          one peer among many is away: its messages alone wait in a tier, no attempt is spent
├── AlreadyDone     acknowledge and move on
│   └── Stale             the command came late: its order has moved past it
└── CallAnOperator  we are wrong: park it and page someone
    └── BadMessage        nobody can read this message: quarantine it
"""

from typing import ClassVar

from orders.failures import FailureType


class RushlineError(Exception):
    """Base of all. `slug` is stable: it is the last part of the problem type and the value of the metric label.

    `failure` is what operators call it; `orders.failures` says whether it may pass.
    """

    slug: ClassVar[str] = "error"
    failure: ClassVar[FailureType] = FailureType.UNKNOWN


class Refuse(RushlineError):  # noqa: N818  # named after what must happen next
    """The caller is wrong. 4xx over HTTP; never tried again."""

    slug = "refused"


class RetryLater(RushlineError):  # noqa: N818
    """The world is wrong for now. The same message may succeed later."""

    slug = "retry-later"


class AlreadyDone(RushlineError):  # noqa: N818
    """What was asked for has happened before. Acknowledge, move on."""

    slug = "already-done"


class CallAnOperator(RushlineError):  # noqa: N818
    """We are wrong. Park the message and page someone; trying again cannot help."""

    slug = "call-an-operator"


class NotAllowed(Refuse):
    """The lifecycle has no row for this action in this state."""

    slug = "action-not-allowed"

    def __init__(self, action: str, state: str) -> None:
        super().__init__(f"{action} is not possible while the order is {state}")
        self.action, self.state = action, state


class NotFound(Refuse):
    """There is no such thing, or it is not the caller's: the two are never told apart."""

    slug = "not-found"


class Invalid(Refuse):
    """A field cannot be used. `field` is a dotted path; the message says what to give instead."""

    slug = "invalid"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


class NoteRefused(Refuse):
    """A signed note (a checkpoint, a key, a proof that carries one) cannot be read or trusted. The message says where and why."""

    slug = "note-refused"


class ProofError(Refuse):
    """A Merkle proof does not show what it claims. The message says whether its length, an index or the root is wrong."""

    slug = "proof-refused"


class LostRace(RetryLater):
    """Somebody else moved the order since it was loaded. Nothing was written; start again from the load."""

    slug = "lost-race"


class DependencyDown(RetryLater):
    """A whole dependency is away and its breaker is open. The message goes back into its queue; no attempt is spent."""

    slug = "dependency-down"
    failure = FailureType.SERVICE_UNAVAILABLE


class PeerAway(RetryLater):
    """One peer among many (a restaurant's host) is away. Its messages alone wait in a tier; no attempt is spent."""

    slug = "peer-away"
    failure = FailureType.SERVICE_UNAVAILABLE


class Stale(AlreadyDone):
    """The command came late: its order has moved past it."""

    slug = "stale"


class BadMessage(CallAnOperator):
    """A message that cannot be read: undecodable, of an unknown type, or of a newer schema."""

    slug = "invalid-message"
    failure = FailureType.INVALID_MESSAGE
