"""Signed notes and their keys are read and written as signed-note says; what a stranger may send is refused by name."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders import signing
from orders.note_keys import Key, KeyMalformed, Kind, encoded, key_id, parse_skey, parse_vkey
from orders.notes import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    NoteMalformed,
    Signature,
    SignatureWrong,
    UnknownSigners,
    open_note,
    parse_note,
    parse_signatures,
    sign,
)

# The example of the specification.
PUBLISHED_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
PUBLISHED_NOTE = """This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""
NOW = datetime(2025, 3, 14, 18, 30, tzinfo=UTC)
SKEY = signing.new_skey("log.example/audit")
SIGNER, VERIFIER = signing.signer(SKEY), signing.verifier(signing.vkey_of(SKEY))
OTHER = signing.new_skey("log.example/audit")
WITNESS = signing.new_skey("witness.example/w", Kind.COSIGNATURE)
COSIGNER, COVERIFIER = signing.signer(WITNESS, lambda: NOW), signing.verifier(signing.vkey_of(WITNESS))
STRANGER = Signature("stranger.example", b"\x00\x01\x02\x03", b"?")


def test_the_published_note_opens_with_the_published_key() -> None:
    opened = open_note(PUBLISHED_NOTE, [signing.verifier(PUBLISHED_VKEY)])
    assert opened.text == "This is an example message.\n"
    assert [each.name for each in opened.verified] == ["example.com/foo"]
    assert str(parse_note(PUBLISHED_NOTE)) == PUBLISHED_NOTE
    assert parse_vkey(PUBLISHED_VKEY).vkey() == PUBLISHED_VKEY


def test_one_letter_more_and_the_published_note_is_refused() -> None:
    with pytest.raises(SignatureWrong, match=r"example\.com/foo \(530d903a\)"):
        open_note(PUBLISHED_NOTE.replace("message", "massage"), [signing.verifier(PUBLISHED_VKEY)])


@given(lines=st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20), min_size=1, max_size=6))
def test_what_was_signed_is_what_is_opened(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    note = sign(text, SIGNER, COSIGNER, existing=[STRANGER])
    opened = open_note(note.encode(), [VERIFIER, COVERIFIER])
    assert opened.text == text
    assert opened.unknown == (STRANGER,)
    assert opened.by(VERIFIER) is not None
    cosignature = opened.by(COVERIFIER)
    assert cosignature is not None
    assert signing.cosigned_at(cosignature) == NOW
    assert str(parse_note(note)) == note


def test_a_note_is_believed_for_each_known_key_alone() -> None:
    note = sign("text\n", SIGNER, COSIGNER)
    assert open_note(note, [VERIFIER]).by(COVERIFIER) is None
    assert open_note(note, [COVERIFIER]).by(VERIFIER) is None
    assert open_note(note, [VERIFIER, signing.verifier(signing.vkey_of(SKEY))]).text == "text\n"


def test_a_note_of_another_key_of_the_same_name_is_refused() -> None:
    other = signing.verifier(signing.vkey_of(OTHER))
    with pytest.raises(
        UnknownSigners, match=rf"signed by log\.example/audit \({SIGNER.key_id.hex()}\); known .*{other.key_id.hex()}"
    ):
        open_note(sign("text\n", SIGNER), [other])
    with pytest.raises(UnknownSigners, match="known here: nobody"):
        open_note(sign("text\n", SIGNER), [])


def test_a_known_keys_false_signature_refuses_the_note_whoever_else_signed() -> None:
    right, false = parse_note(sign("text\n", SIGNER)).signatures[0], parse_note(sign("other\n", SIGNER)).signatures[0]
    for signatures in ([false], [right, false], [false, right]):
        with pytest.raises(SignatureWrong):
            open_note(sign("text\n", COSIGNER, existing=signatures), [VERIFIER, COVERIFIER])


@given(at=st.integers(0, 71), bit=st.integers(0, 7))
def test_no_bit_of_a_cosignature_can_be_turned(at: int, bit: int) -> None:
    """The time is signed with the rest."""
    value = bytearray(parse_note(sign("text\n", COSIGNER)).signatures[0].value)
    value[at] ^= 1 << bit
    turned = Signature(COSIGNER.name, COSIGNER.key_id, bytes(value))
    with pytest.raises(SignatureWrong):
        open_note(sign("text\n", existing=[turned]), [COVERIFIER])


def test_a_cosignature_is_no_signature_and_a_signature_no_cosignature() -> None:
    seed = parse_skey(SKEY).material
    public = parse_vkey(signing.vkey_of(SKEY)).material
    as_witness = Key(SIGNER.name, key_id(SIGNER.name, Kind.COSIGNATURE, public), Kind.COSIGNATURE, seed)
    assert as_witness.key_id != SIGNER.key_id
    with pytest.raises(UnknownSigners):
        open_note(sign("text\n", signing.signer(as_witness.skey())), [VERIFIER])


def test_a_cosignature_is_over_the_time_and_the_text_as_the_specification_spells_them() -> None:
    value = parse_note(sign("text\n", COSIGNER)).signatures[0].value
    assert int.from_bytes(value[:8], "big") == int(NOW.timestamp())
    message = b"cosignature/v1\ntime %d\ntext\n" % NOW.timestamp()
    plain = Key(COSIGNER.name, key_id(COSIGNER.name, 1, COVERIFIER.key.material), 1, COVERIFIER.key.material)
    assert signing.Ed25519Verifier(plain).verify(message, value[8:])


@pytest.mark.parametrize(
    ("note", "problem"),
    [
        ("", "no empty line"),
        ("text\n", "no empty line"),
        ("text\n\n", "no signatures"),
        ("text\n— a AAAAAAE=\n", "no empty line"),
        ("text\n\n— a AAAAAAE=", "does not end in a newline"),
        ("text\n\n- a AAAAAAE=\n", "line 3: .*em dash"),
        ("text\n\nmore\n\n— a AAAAAAE=\n—a AAAAAAE=\n", "line 6: .*em dash"),
        ("text\n\n— a\n", "line 3: .*base64"),
        ("text\n\n— a AAAAAA==\n", "line 3: .*at least one byte"),
        ("text\n\n— a AAAAAAF=\n", "line 3: .*base64"),
        ("text\n\n— a AAAAAAE= \n", "line 3: .*base64"),
        ("text\n\n— a AAAA\u2028AAE=\n", "line 3: .*base64"),
        ("text\n\n—  AAAAAAE=\n", "line 3: .*name"),
        ("text\n\n— a+b AAAAAAE=\n", "line 3: .*name"),
        ("text\n\n— a\u00a0b AAAAAAE=\n", "line 3: .*name"),
        ("text\n\n— a AAAAAAE=\n\n", "no signatures"),
        ("te\txt\n\n— a AAAAAAE=\n", r"line 1: control character U\+0009"),
        ("text\n\n— a AAAAAAE=\r\n", r"line 3: control character U\+000D"),
        ("te\0xt\n\n— a AAAAAAE=\n", r"U\+0000"),
        ("te\ud800xt\n\n— a AAAAAAE=\n", "UTF-8"),
        (b"te\xffxt\n\n\xe2\x80\x94 a AAAAAAE=\n", "UTF-8"),
        ("x" * MAX_NOTE_BYTES + "\n\n— a AAAAAAE=\n", f"{MAX_NOTE_BYTES} bytes"),
        ("text\n\n" + "— a AAAAAAE=\n" * (MAX_SIGNATURES + 1), f"{MAX_SIGNATURES} signatures"),
    ],
)
def test_what_is_no_note_is_refused_and_the_line_named(note: str | bytes, problem: str) -> None:
    with pytest.raises(NoteMalformed, match=problem):
        open_note(note, [VERIFIER])


def test_sixteen_signatures_and_more_are_taken() -> None:
    strangers = [
        Signature(f"stranger.example/{number}", b"\x00\x01\x02\x03", b"?" * 2_432) for number in range(MAX_SIGNATURES - 1)
    ]
    assert len(open_note(sign("text\n", SIGNER, existing=strangers), [VERIFIER]).unknown) == MAX_SIGNATURES - 1


def test_a_strangers_long_names_do_not_swell_the_refusal() -> None:
    strangers = [Signature("n" * 5_000, bytes([0, 0, 0, number]), b"?") for number in range(50)]
    with pytest.raises(UnknownSigners) as refused:
        open_note(sign("text\n", existing=strangers), [VERIFIER])
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize("text", ["", "text", "te\rxt\n", "te\x1fxt\n"])
def test_what_cannot_be_a_notes_text_is_not_signed(text: str) -> None:
    with pytest.raises(NoteMalformed):
        sign(text, SIGNER)


def test_signature_lines_alone_are_read_as_in_a_note() -> None:
    lines = sign("text\n", SIGNER, COSIGNER).removeprefix("text\n\n")
    assert [each.name for each in parse_signatures(lines)] == [SIGNER.name, COSIGNER.name]
    for wrong in ("", "— a", "text\n", "\n" + lines, lines + "\n"):
        with pytest.raises(NoteMalformed):
            parse_signatures(wrong)


@pytest.mark.parametrize(
    ("vkey", "problem"),
    [
        ("", "1 of the three parts"),
        ("example.com/foo+530d903a", "2 of the three parts"),
        ("+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "name must not be empty"),
        ("exa mple+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "name must not be empty nor have blanks"),
        ("example.com/\ud800+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "name"),
        ("example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "eight hexadecimal digits"),
        ("example.com/foo+0530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "eight hexadecimal digits"),
        ("example.com/bar+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "id 530d903a is not that of the key of example.com/bar"),
        ("example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "id 530d903b is not"),
        ("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2", "not base64"),
        ("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U0=", "31 bytes|not base64"),
        ("example.com/foo+530d903a+", "not base64"),
        ("example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "type 0x02"),
    ],
)  # fmt: skip
def test_a_verifiers_key_that_was_changed_is_named(vkey: str, problem: str) -> None:
    with pytest.raises(KeyMalformed, match=problem):
        signing.verifier(vkey)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_new_key_signs_what_its_public_half_verifies(kind: Kind) -> None:
    skey = signing.new_skey("log.example/new", kind)
    assert parse_skey(skey).skey() == skey
    opened = open_note(sign("text\n", signing.signer(skey)), [signing.verifier(signing.vkey_of(skey))])
    assert opened.verified[0].name == "log.example/new"


def test_a_private_key_is_never_shown() -> None:
    key = parse_skey(SKEY)
    assert encoded(bytes([key.kind]) + key.material) in SKEY
    assert key.material.hex() not in repr(SIGNER)
    assert repr(key.material) not in repr(SIGNER)
    for spoiled in (SKEY[:-4], SKEY.replace("log.example", "log.other"), SKEY + "AAAA", SKEY.removeprefix("PRIVATE+KEY+")):
        with pytest.raises(KeyMalformed) as refused:
            signing.signer(spoiled)
        assert SKEY[-20:-8] not in str(refused.value)


def test_two_keys_that_cannot_be_told_apart_are_refused() -> None:
    impostor = signing.Ed25519Verifier(Key(VERIFIER.name, VERIFIER.key_id, Kind.ED25519, bytes(32)))
    with pytest.raises(KeyMalformed, match="cannot be told apart"):
        open_note(sign("text\n", SIGNER), [VERIFIER, impostor])


def test_what_is_no_point_of_the_curve_verifies_nothing() -> None:
    wrong = signing.Ed25519Verifier(Key(SIGNER.name, SIGNER.key_id, Kind.ED25519, b"\xff" * 32))
    with pytest.raises(SignatureWrong):
        open_note(sign("text\n", SIGNER), [wrong])
