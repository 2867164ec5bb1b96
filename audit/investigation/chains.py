"""The only place that says whether the record of one order holds: each chain computed again, from position 1 to its head. Pure."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from audit.events import LOOKS
from audit.investigation.material import AuditEvent, Leaf, Material
from audit.investigation.model import ChainCheck, Integrity
from orders import chain

_EVENT: Final = msgspec.json.Decoder(AuditEvent)
_RAW: Final = msgspec.json.Decoder(dict[str, Any])


def read(leaf: Leaf) -> AuditEvent:
    """The event in these bytes."""
    return _EVENT.decode(leaf.body)


def merged(material: Material) -> list[Leaf]:
    """The order's own chain: from the log, and from the orders' own copy what has not come there yet."""
    order_id = material.order.order_id
    of_log = [leaf for leaf in material.ledger.leaves if leaf.chain == order_id] if material.ledger else []
    known = {leaf.position for leaf in of_log}
    return sorted([*of_log, *(leaf for leaf in material.own if leaf.position not in known)], key=lambda leaf: leaf.position)


def check_chain(name: str, leaves: Sequence[Leaf], head: tuple[int, str], *, elsewhere: bool = False) -> ChainCheck:
    """Compute a chain again and hold it against its head.

    `elsewhere`: events may be where we did not look (the archive, a ledger that is away). Then a gap breaks nothing: what is at
    hand must hold by itself, piece by piece, and the last of it against the head.
    """
    prev, expected, checked, why = chain.GENESIS, 1, 0, None
    for leaf in leaves:
        if elsewhere and leaf.position > expected:
            prev, expected = str(_field(leaf, "prev_hash")), leaf.position
        why = _misfit(leaf, expected, prev)
        if why is not None:
            break
        prev, expected, checked = str(_field(leaf, "hash")), expected + 1, checked + 1
    if why is None and (expected - 1 == head[0] or not elsewhere):
        why = _mishead(expected - 1, prev, head)
    indexes = [leaf.leaf_index for leaf in leaves if leaf.leaf_index is not None]
    return ChainCheck(
        chain=name, checked=checked, head_position=head[0], head_matches=why is None and expected - 1 == head[0],
        broken_at=expected if why else None, why=why, first_leaf=min(indexes, default=None), last_leaf=max(indexes, default=None),
        not_in_the_log_yet=len(leaves) - len(indexes), not_at_hand=max(0, head[0] - checked) if elsewhere and not why else 0,
    )  # fmt: skip


def _mishead(last: int, prev: str, head: tuple[int, str]) -> str | None:
    if (last, prev) == head:
        return None
    if last == head[0]:
        return f"the hash at position {last} is not the one that stands with the order"
    return f"it ends at position {last}, and its head is at {head[0]}"


def _field(leaf: Leaf, name: str) -> Any:
    try:
        return _RAW.decode(leaf.body).get(name)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _misfit(leaf: Leaf, expected: int, prev: str) -> str | None:
    if leaf.position != expected:
        return f"position {expected} is missing" if leaf.position > expected else f"position {leaf.position} is there twice"
    try:
        event = _RAW.decode(leaf.body)
        claimed, computed = chain.resealed(leaf.body)
        canonical = chain.canonical(event) == leaf.body
    except (msgspec.DecodeError, chain.NotCanonicalError, ValueError):
        return f"what stands at position {expected} is no event"
    if not (claimed == computed == event.get("hash") and canonical):
        return f"the hash at position {expected} is not that of its contents"
    if event.get("position") != expected or event.get("prev_hash") != prev:
        return f"position {expected} does not link to the one before"
    return None


def check(material: Material) -> Integrity:
    """What was checked just now, what it showed, and what could not be checked."""
    order, ledger, elsewhere = material.order, material.ledger, bool(material.elsewhere)
    main = check_chain(order.order_id, merged(material), (order.position, order.chain_head), elsewhere=elsewhere)
    looks = _looks(material)
    agree = _agree(material)
    set_aside = [f"{of_chain} at {position}: {reason}" for of_chain, position, reason in ledger.set_aside] if ledger else []
    broken = main.why or (looks and looks.why) or agree is False or set_aside
    covered = ledger.covered if ledger else None
    return Integrity(
        held=False if broken else None if main.not_at_hand else True,
        words=_words(main, looks, agree=agree, set_aside=len(set_aside), covered=covered), order=main, looks=looks,
        copies_agree=agree, set_aside=set_aside, checkpoint_size=covered[0] if covered else None,
        checkpoint_at=covered[1] if covered else None, log_size=ledger.log_size if ledger else None,
        not_checked=_not_checked(material, main, looks),
    )  # fmt: skip


def _looks(material: Material) -> ChainCheck | None:
    """The chain of what was read. Its last links may still be on their way, and nobody else keeps them: then it cannot be said."""
    if material.ledger is None or material.looks_head is None:
        return None
    name, elsewhere = material.order.order_id + LOOKS, bool(material.elsewhere)
    leaves = [leaf for leaf in material.ledger.leaves if leaf.chain == name]
    position, head = material.looks_head
    last = leaves[-1].position if leaves else 0
    if last < position:  # the newest are under way: those that are here must hold by themselves
        end = str(_field(leaves[-1], "hash")) if leaves else chain.GENESIS
        found = check_chain(name, leaves, (last, end), elsewhere=elsewhere)
        return msgspec.structs.replace(found, head_position=position, not_in_the_log_yet=position - last)
    return check_chain(name, leaves, (position, head), elsewhere=elsewhere)


def _agree(material: Material) -> bool | None:
    """Whether the two copies have the same bytes at each position that both have. None where there is nothing to compare."""
    if material.ledger is None:
        return None
    of_log = {leaf.position: leaf.body for leaf in material.ledger.leaves if leaf.chain == material.order.order_id}
    both = [leaf for leaf in material.own if leaf.position in of_log]
    return all(of_log[leaf.position] == leaf.body for leaf in both) if both else None


def _words(main: ChainCheck, looks: ChainCheck | None, *, agree: bool | None, set_aside: int, covered: Any) -> str:
    if main.why:
        return f"The record does not hold: {main.why}."
    if looks and looks.why:
        return f"The record of who looked at the order does not hold: {looks.why}."
    if agree is False:
        return "The record does not hold: the log and the orders' own copy differ."
    if set_aside:
        return f"{set_aside} events did not fit the record and were set aside."
    if main.not_at_hand:
        return f"{main.checked} of {main.head_position} events are at hand; they hold. The others were not checked."
    logged = f"leaves {main.first_leaf} to {main.last_leaf} of the log" if main.first_leaf is not None else "not in the log yet"
    signed = f", under the signed checkpoint of size {covered[0]}" if covered else ", under no signed checkpoint yet"
    return (
        f"All {main.checked} events were computed again and hold, up to the head that stands with the order; {logged}{signed}."
    )


def _not_checked(material: Material, main: ChainCheck, looks: ChainCheck | None) -> list[str]:
    if material.ledger is None:
        gone = [f"{main.not_at_hand} events of the order"] if main.not_at_hand else []
        return [f"the ledger ({material.away}): neither the log nor its checkpoints", "who looked at the order", *gone]
    found = [f"{main.not_at_hand} events that are in {material.elsewhere}"] if main.not_at_hand else []
    if main.not_in_the_log_yet:
        found.append(f"{main.not_in_the_log_yet} events are on their way to the log")
    if looks and looks.not_in_the_log_yet:
        found.append(f"{looks.not_in_the_log_yet} looks are on their way to the log")
    if main.first_leaf is not None and material.ledger.covered is None:
        found.append("no signed checkpoint covers the order yet")
    found.append("that the leaves are in the signed tree: `rushline audit verify` and …/proof/{event_id} do that")
    return found
