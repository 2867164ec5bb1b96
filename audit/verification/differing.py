"""The only place that says what became of leaves whose stored hashes are not those of the events: edited, swapped, put in, taken out."""

from collections.abc import Sequence

import msgspec

from audit.verification.findings import Findings, Kind


class Difference(msgspec.Struct, frozen=True, gc=False):
    """One leaf: the hash that the stored tree has for it, and that of the event that stands there."""

    leaf: int
    said: bytes
    found: bytes


def explain(differences: Sequence[Difference], findings: Findings) -> None:
    """Turn differences, by leaf, into findings. What follows from one that was put in or taken out is not told again."""
    where_said = {each.said: each.leaf for each in differences}
    where_found = {each.found: each.leaf for each in differences}
    told: set[int] = set()
    for each in differences:
        if each.leaf in told:
            continue
        other, back = where_said.get(each.found), where_found.get(each.said)
        if other is not None and other == back:
            told.add(other)
            sentence = (
                f"The events of leaves {each.leaf} and {other} were swapped: each hashes to what the tree has for the other."
            )
            _add(findings, Kind.SWAPPED, sentence, each)
        elif back is not None and back == each.leaf + 1:
            _add(
                findings,
                Kind.INSERTED,
                f"An event was put in at leaf {each.leaf}: what the tree has there comes after it.",
                each,
            )
            return
        elif other is not None and other == each.leaf + 1:
            _add(findings, Kind.REMOVED, f"The event of leaf {each.leaf} was taken out: what follows it moved up.", each)
            return
        elif not each.said:
            _add(findings, Kind.TILE, f"The stored tree has no hash for leaf {each.leaf}.", each)
        elif not findings.at(each.leaf):
            sentence = f"Another event stands at leaf {each.leaf} than the one that was hashed into the tree."
            _add(findings, Kind.REPLACED, sentence, each)


def _add(findings: Findings, kind: Kind, sentence: str, each: Difference) -> None:
    findings.add(kind, sentence, leaf=each.leaf, said=each.said.hex(), found=each.found.hex())
