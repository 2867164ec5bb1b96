"""`rushline dlq` as somebody uses it at three in the morning, on a real database: what it says, changes, refuses, and returns."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.postgres import Pool, open_pool
from adapters.settings import Settings
from console.__main__ import main
from orders.ids import new_id
from orders.names import Command
from outbox.letters import replays
from outbox.letters.ingest import ingest
from outbox.letters.model import LetterState
from outbox.letters.sending import settle
from tests.integration.gateway_world import gateway_settings
from tests.integration.letters_desk import everything, letter, park, poison, state_of

__all__ = ("gateway_settings",)


@dataclass(frozen=True)
class Desk:
    """A terminal at which somebody sits, and the database behind it."""

    pool: Pool
    settings: Settings

    async def type(self, *words: str, given: str | None = None, **environment: str) -> Result:
        env = {"RUSHLINE_POSTGRES_DSN": self.settings.postgres_dsn, "RUSHLINE_HOME": "/nonexistent", **environment}
        return await asyncio.to_thread(CliRunner().invoke, main, ["dlq", *words], input=given, env=env)

    async def read(self, *words: str) -> Any:
        result = await self.type(*words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
async def desk(gateway_settings: Settings) -> AsyncIterator[Desk]:
    async with open_pool(gateway_settings.postgres_dsn, service="tests", size=4) as pool:
        yield Desk(pool, gateway_settings)


def _strange() -> str:
    return f"Strange{secrets.token_hex(4)}"


async def _group(desk: Desk, number: int) -> tuple[str, list[str]]:
    error, start = _strange(), datetime.now(UTC) - timedelta(minutes=5)
    made = [letter(error=error, failed_at=start + timedelta(seconds=n)) for n in range(number)]
    return made[0].fingerprint, await park(desk.pool, made)


async def test_open_letters_are_listed_with_their_ids_shortened(desk: Desk) -> None:
    order_id = new_id("ord")
    one = letter(order_id=order_id)
    await park(desk.pool, [one])
    said = await desk.type("list", "--order", order_id)
    assert said.exit_code == 0
    assert one.letter_id[:12] in said.stdout
    assert "payment_timeout" in said.stdout
    assert order_id in said.stdout
    page = await desk.read("list", "--order", order_id)
    assert [each["letter_id"] for each in page["letters"]] == [one.letter_id]
    assert (page["count"], page["next_cursor"]) == ({"number": 1, "exact": True}, None)


async def test_a_listing_that_is_empty_says_so_and_where_else_to_look(desk: Desk) -> None:
    order_id = new_id("ord")
    said = await desk.type("list", "--order", order_id)
    assert (said.exit_code, said.stdout) == (
        0, "No letter matches. Only open ones were looked for; `--state all` shows the others.\n",
    )  # fmt: skip
    said = await desk.type("list", "--order", order_id, "--state", "all")
    assert (said.exit_code, said.stdout) == (0, "No letter matches.\n")


async def test_pages_follow_each_other(desk: Desk) -> None:
    fingerprint, ids = await _group(desk, 3)
    first = await desk.read("list", "--group", fingerprint, "--limit", "2")
    second = await desk.read("list", "--group", fingerprint, "--limit", "2", "--cursor", first["next_cursor"])
    assert [each["letter_id"] for each in (*first["letters"], *second["letters"])] == ids[::-1]
    assert "--cursor" in (await desk.type("list", "--group", fingerprint, "--limit", "2")).stdout


async def test_what_a_message_says_cannot_move_the_cursor_or_be_taken_for_markup(desk: Desk) -> None:
    evil = "[bold red]x[/] \x1b[2J\x1b]0;owned\x07 \u202e \x9b31m [/nothing]"
    one = letter(body=evil.encode(), error="Evil", message=evil, headers={"x": evil}, order_id=new_id("ord"))
    await park(desk.pool, [one])
    for words in (("list", "--order", one.order_id or ""), ("show", one.letter_id), ("groups",), ("alerts",)):
        said = await desk.type(*words)
        assert said.exit_code == 0, said.output
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(said.output), words
    assert "[bold red]x[/]" in (await desk.type("show", one.letter_id)).stdout


async def test_a_letter_is_shown_by_the_beginning_of_its_id_and_says_what_can_be_done(desk: Desk) -> None:
    one = letter()
    await park(desk.pool, [one])
    for name in (one.letter_id, one.letter_id[:16], one.letter_id[4:16]):
        said = await desk.type("show", name)
        assert said.exit_code == 0, said.output
        assert f"rushline dlq replay {one.letter_id[:12]} --watch" in said.stdout
        assert one.message_id in said.stdout
    shown = await desk.read("show", one.letter_id[:16])
    assert (shown["letter"]["letter_id"], shown["body"]["data"].encode()) == (one.letter_id, one.body)


async def test_a_body_is_given_byte_for_byte(desk: Desk) -> None:
    one = poison(b"\x00\xff\n")
    await park(desk.pool, [one])
    assert (await desk.type("show", one.letter_id, "--raw")).stdout_bytes == b"\x00\xff\n"


async def test_an_id_that_names_several_or_none_is_refused(desk: Desk) -> None:
    for name, what in (("let_1", "too short"), ("ffff0000eeee", "there is no letter"), ("'; --", "there is no letter")):
        said = await desk.type("show", name)
        assert (said.exit_code, what in said.stderr) == (1, True), said.output
        assert said.stderr.count("\n") <= 2
    twins = letter(), letter()
    shared = "let_00000000-0000-8000-8000-00000000000"
    await park(desk.pool, [msgspec.structs.replace(twin, letter_id=f"{shared}{n}") for n, twin in enumerate(twins)])
    said = await desk.type("show", "let_00000000")
    assert said.exit_code == 1
    assert f"{shared}0, {shared}1" in said.stderr


async def test_a_letter_is_sent_again_once(desk: Desk) -> None:
    one = letter()
    await park(desk.pool, [one])
    tried = await desk.type("replay", one.letter_id, "--dry-run")
    assert (tried.exit_code, await state_of(desk.pool, one.letter_id)) == (0, LetterState.OPEN)
    assert "Nothing was changed" in tried.stdout
    sent = await desk.type("replay", one.letter_id[:14], "--as", "ann", "--reason", "the provider is back")
    assert (sent.exit_code, await state_of(desk.pool, one.letter_id)) == (0, LetterState.REPLAYING), sent.output
    again = await desk.type("replay", one.letter_id)
    assert again.exit_code == 1
    assert "under way" in again.stderr
    assert "rushline dlq show" in again.stderr
    history = (await desk.read("show", one.letter_id))["history"]
    assert [(entry["actor"], entry["action"]) for entry in history][-2:] == [("ann", "sent"), ("ann", "note")]
    assert history[-1]["detail"]["text"] == "the provider is back"


async def test_of_several_letters_each_is_told_and_one_refusal_is_an_exit_code_of_1(desk: Desk) -> None:
    good, gone = letter(), letter()
    await park(desk.pool, [good, gone])
    await desk.type("discard", gone.letter_id, "--reason", "hopeless")
    said = await desk.type("replay", good.letter_id, gone.letter_id, "--json")
    told = json.loads(said.stdout)
    assert said.exit_code == 1
    assert [each["letter_id"] for each in told["letters"]] == [good.letter_id]
    assert [(each["letter"], each["type"]) for each in told["refused"]] == [(gone.letter_id, "letter-not-open")]


async def test_who_watches_one_letter_learns_how_it_ends(desk: Desk) -> None:
    good, bad = letter(), letter()
    await park(desk.pool, [good, bad])
    watching = asyncio.create_task(desk.type("replay", good.letter_id, bad.letter_id, "--watch"))
    until = asyncio.get_running_loop().time() + 20
    while await desk.pool.fetchval("SELECT count(*) FROM dead_letters WHERE state = 'replaying' AND letter_id = ANY ($1)",
                                   [good.letter_id, bad.letter_id]) < 2:  # fmt: skip
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.02)
    await settle(desk.pool, good.letter_id, outcome="done", now=datetime.now(UTC))
    at = datetime.now(UTC) + timedelta(seconds=1)
    await ingest(desk.pool, [msgspec.structs.replace(bad, parked_at=at, last_failed_at=at, message="still away",
                                                     headers={**bad.headers, "rushline-letter": bad.letter_id})])  # fmt: skip
    said = await watching
    assert said.exit_code == 1
    assert f"{good.letter_id} is resolved" in said.stdout
    assert "failed again: ProviderUnavailable: still away" in said.stdout


async def test_many_are_sent_again_and_watched_to_their_end(desk: Desk) -> None:
    fingerprint, ids = await _group(desk, 8)
    tried = await desk.type("replay", "--group", fingerprint, "--dry-run")
    assert "8 letters would be sent again: 1, then 5, then 2" in tried.stdout
    before = await everything(desk.pool)
    assert (await desk.type("replay", "--group", fingerprint, "--dry-run", "--json")).exit_code == 0
    assert await everything(desk.pool) == before
    watching = asyncio.create_task(
        desk.type("replay", "--group", fingerprint, "--canary", "2", "--reason", "it is back", "--watch")
    )
    while not watching.done():
        now = datetime.now(UTC)
        await replays.step(desk.pool, now)
        for letter_id in ids:
            if await state_of(desk.pool, letter_id) is LetterState.REPLAYING:
                await settle(desk.pool, letter_id, outcome="done", now=now)
        await asyncio.sleep(0.05)
    said = watching.result()
    assert said.exit_code == 0, said.output
    assert "is done: 8 of 8 done" in said.stdout
    newest = (await desk.read("replays", "list", "--limit", "1"))["replays"][0]
    assert (newest["done"], newest["reason"], [stage["size"] for stage in newest["stages"]]) == (8, "it is back", [2, 6])
    shown = await desk.type("replays", "show", newest["replay_id"])
    assert (shown.exit_code, "it is back" in shown.stdout) == (0, True)


async def test_a_replay_that_stops_is_an_exit_code_of_1_with_the_cause(desk: Desk) -> None:
    fingerprint, ids = await _group(desk, 3)
    begun = await desk.read("replay", "--group", fingerprint, "--canary", "1")
    await replays.step(desk.pool, datetime.now(UTC))
    first = await desk.pool.fetchrow("SELECT * FROM dead_letters WHERE letter_id = $1", ids[0])
    assert first["state"] == "replaying"
    at = datetime.now(UTC) + timedelta(seconds=1)
    again = msgspec.convert(dict(first), type(letter()))
    headers = {**again.headers, "rushline-letter": ids[0], "rushline-replay": begun["replay_id"]}
    await ingest(
        desk.pool, [msgspec.structs.replace(again, state=LetterState.OPEN, parked_at=at, last_failed_at=at, headers=headers)]
    )
    await replays.step(desk.pool, at)
    said = await desk.type("replays", "watch", begun["replay_id"])
    assert said.exit_code == 1
    assert f"{ids[0]} failed again" in said.stdout
    assert "replays resume" in said.stdout
    paused = await desk.type("replays", "pause", begun["replay_id"])
    assert (paused.exit_code, "it cannot become paused" in paused.stderr) == (1, True)
    cancelled = await desk.read("replays", "cancel", begun["replay_id"])
    assert cancelled["state"] == "cancelled"


async def test_a_message_is_edited_by_a_patch_a_file_or_an_editor_and_the_difference_is_shown(
    desk: Desk, tmp_path: Path
) -> None:
    def wrong() -> Any:
        order_id = new_id("ord")
        body = {"order_id": order_id, "position": 4, "restaurant_id": "rst_wrong"}
        return letter(Command.RESTAURANT_NOTIFY, order_id=order_id, body=msgspec.json.encode(body))

    patched, filed, typed = wrong(), wrong(), wrong()
    await park(desk.pool, [patched, filed, typed])
    file = tmp_path / "body.json"
    file.write_bytes(filed.body.replace(b"rst_wrong", b"rst_right"))
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\nsleep 1\nsed -i s/rst_wrong/rst_right/ "$1"\n')  # the editor's file needs a newer time
    editor.chmod(0o755)
    tried = await desk.type(
        "edit", patched.letter_id, "--patch", '{"restaurant_id": "rst_right"}', "--reason", "x", "--dry-run"
    )
    assert (tried.exit_code, await state_of(desk.pool, patched.letter_id)) == (0, LetterState.OPEN), tried.output
    for words, environment in (
        ((patched.letter_id, "--patch", '{"restaurant_id": "rst_right"}'), {}),
        ((filed.letter_id, "--file", str(file)), {}),
        ((typed.letter_id,), {"EDITOR": str(editor)}),
    ):
        said = await desk.type("edit", *words, "--reason", "it moved", **environment)
        assert said.exit_code == 0, said.output
        assert "rst_wrong" in said.stdout
        assert "rst_right" in said.stdout
    for one in (patched, filed, typed):
        sent = await desk.pool.fetchval("SELECT body FROM outbox WHERE event_id = $1", one.message_id)
        assert msgspec.json.decode(sent)["restaurant_id"] == "rst_right"


async def test_an_edit_that_cannot_be_is_refused_and_says_why(desk: Desk) -> None:
    one = letter()
    await park(desk.pool, [one])
    for words, code, what in (
        (("--patch", "{"), 2, "this is no JSON"),
        (("--patch", '{"colour": "red"}'), 1, "has no such field"),
        (("--patch", '{"order_id": "x"}'), 1, "identity"),
        (("--file", "/nonexistent"), 2, "does not exist"),
    ):
        said = await desk.type("edit", one.letter_id, *words, "--reason", "x")
        assert (said.exit_code, what in said.stderr) == (code, True), said.output
    unsaved = await desk.type("edit", one.letter_id, "--reason", "x", EDITOR="true")
    assert (unsaved.exit_code, "nothing was changed" in unsaved.stderr) == (2, True)
    assert await state_of(desk.pool, one.letter_id) is LetterState.OPEN


async def test_what_moves_money_needs_another_name(desk: Desk) -> None:
    order_id = new_id("ord")
    body = msgspec.json.encode({"order_id": order_id, "position": 4, "reason": "cancelled", "amount": 100})
    one = letter(Command.PAYMENT_REFUND, order_id=order_id, body=body)
    await park(desk.pool, [one])
    said = await desk.type("edit", one.letter_id, "--patch", '{"amount": 50}', "--reason", "half", "--as", "ann")
    assert (said.exit_code, "second person" in said.stdout) == (0, True), said.output
    (waiting,) = [each for each in (await desk.read("edits"))["edits"] if each["letter_id"] == one.letter_id]
    own = await desk.type("approve", waiting["edit_id"], "--as", "ann")
    assert (own.exit_code, "somebody else" in own.stderr) == (1, True)
    refused = await desk.type("refuse", waiting["edit_id"], "--as", "bob", "--reason", "no", "--dry-run")
    assert refused.exit_code == 0, refused.output
    approved = await desk.type("approve", waiting["edit_id"], "--as", "bob")
    assert (approved.exit_code, await state_of(desk.pool, one.letter_id)) == (0, LetterState.REPLAYING), approved.output
    assert waiting["edit_id"] in (await desk.type("edits", "--state", "sent")).stdout


async def test_letters_are_put_away_kept_company_and_left_asleep(desk: Desk) -> None:
    fingerprint, ids = await _group(desk, 2)
    one = ids[0]
    before = await everything(desk.pool)
    verbs = (
        ("note", one, "the oven burns"), ("assign", one, "--owner", "ann"), ("assign", "--group", fingerprint, "--owner", "bob"),
        ("snooze", one, "--until", "2h"), ("snooze", "--group", fingerprint, "--until", "2h"),
        ("discard", one, "--reason", "hopeless"), ("discard", "--group", fingerprint, "--reason", "hopeless", "--yes"),
    )  # fmt: skip
    for words in verbs:
        said = await desk.type(*words, "--dry-run")
        assert said.exit_code == 0, said.output
        assert await everything(desk.pool) == before, words
    for words in verbs:
        said = await desk.type(*words, "--as", "ann")
        assert said.exit_code == 0, said.output
    assert {await state_of(desk.pool, each) for each in ids} == {LetterState.DISCARDED}
    shown = await desk.read("show", one)
    assert (shown["letter"]["owner"], shown["letter"]["resolution"], shown["group"]["owner"]) == ("ann", "hopeless", "bob")
    assert "note" in {entry["action"] for entry in shown["history"]}


async def test_a_snooze_is_told_while_it_lasts_and_a_replay_says_why_it_leaves_letters_alone(desk: Desk) -> None:
    fingerprint, (one, *_) = await _group(desk, 2)
    assert "sleeps until" not in (await desk.type("show", one)).stdout
    await desk.type("snooze", "--group", fingerprint, "--until", "2h")
    assert "which sleeps until" in (await desk.type("show", one)).stdout
    await desk.pool.execute(
        "UPDATE dead_letters SET snoozed_until = now() - interval '1 s' WHERE fingerprint = $1", fingerprint
    )
    await desk.pool.execute("UPDATE letter_groups SET snoozed_until = NULL WHERE fingerprint = $1", fingerprint)
    assert "sleeps until" not in (await desk.type("show", one)).stdout
    await desk.type("snooze", "--group", fingerprint, "--until", "2h")
    assert "wakes" in (await desk.type("groups", "--snoozed", "--limit", "1000")).stdout
    await desk.type("snooze", one, "--until", "3h")
    listed = (await desk.type("list", "--group", fingerprint)).stdout
    assert (listed.count("wakes"), listed.count("in 2h") + listed.count("in 3h")) == (1, 1), listed
    words = (await desk.read("show", one))["letter"]["error"]
    said = await desk.type("replay", "--words", words, "--reason", "x")
    assert (said.exit_code, "2 open letters match the filter, and each is snoozed" in said.stderr) == (1, True), said.output


async def test_many_are_not_discarded_without_a_yes(desk: Desk) -> None:
    fingerprint, ids = await _group(desk, 2)
    for given in ("n\n", ""):
        said = await desk.type("discard", "--group", fingerprint, "--reason", "x", given=given)
        assert (said.exit_code, "Discard 2 letters for good?" in said.stderr) == (1, True), said.output
    assert {await state_of(desk.pool, each) for each in ids} == {LetterState.OPEN}
    said = await desk.type("discard", "--group", fingerprint, "--reason", "x", given="y\n")
    assert (said.exit_code, {await state_of(desk.pool, each) for each in ids}) == (0, {LetterState.DISCARDED})


async def test_a_rule_is_written_from_what_was_shown_and_switched(desk: Desk, tmp_path: Path) -> None:
    file, name = tmp_path / "rule.json", f"test {secrets.token_hex(4)}"
    rule = {
        "name": name, "match": {"failure_types": ["payment_timeout"], "max_generation": 1}, "action": {"do": "replay"},
        "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(), "enabled": False,
    }  # fmt: skip
    file.write_text(json.dumps(rule))
    await park(desk.pool, [letter()])
    assert (await desk.read("rules", "dry-run", str(file)))["matching"] >= 1
    assert "would be taken" in (await desk.type("rules", "dry-run", str(file))).stdout
    before = await everything(desk.pool)
    assert (await desk.type("rules", "put", str(file), "--dry-run")).exit_code == 0
    assert await everything(desk.pool) == before
    assert (await desk.type("rules", "put", str(file), "--as", "ann")).exit_code == 0
    again = await desk.type("rules", "put", str(file))
    assert (again.exit_code, "version" in again.stderr) == (1, True)
    shown = await desk.read("rules", "show", name)
    file.write_text(json.dumps({**shown, "per_hour": 7}))
    changed = await desk.type("rules", "put", str(file))
    assert changed.exit_code == 0, changed.output
    assert (await desk.read("rules", "show", name))["per_hour"] == 7
    assert "is on" in (await desk.type("rules", "enable", name)).stdout
    assert "is off" in (await desk.type("rules", "disable", name)).stdout
    assert name in (await desk.type("rules", "list")).stdout
    file.write_text(json.dumps({**rule, "name": "all of them", "match": {}}))
    refused = await desk.type("rules", "put", str(file))
    assert (refused.exit_code, "every letter" in refused.stderr or "everything" in refused.stderr) == (1, True), refused.output
    file.write_text("{")
    assert (await desk.type("rules", "put", str(file))).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("replay",),
        ("replay", "let_1234", "--group", "abcd"),
        ("replay", "let_1234", "--per-second", "5"),
        ("replay", "let_1234", "--canary", "1,5"),
        ("replay", "let_1234", "--cutoff", "1h"),
        ("replay", "--all", "--canary", "0,5"),
        ("replay", "--all", "--canary", "many"),
        ("replay", "--all", "--per-second", "0"),
        ("replay", "--all", "--cutoff", "soon"),
        ("discard", "let_1234"),
        ("discard", "--reason", "x"),
        ("discard", "let_1234", "--reason", " "),
        ("snooze", "let_1234"),
        ("snooze", "let_1234", "--until", "2h", "--wake"),
        ("snooze", "--until", "2h"),
        ("assign", "let_1234"),
        ("note", "let_1234"),
        ("edit", "let_1234"),
        ("list", "--failure", "bad luck"),
        ("list", "--words", "a\x07"),
        ("list", "--limit", "0"),
        ("list", "--since", "0001-01-01T00:00:00+14:00"),
        ("note", "let_1234", "x", "--as", "a\x1b[2J"),
    ],
)
async def test_what_makes_no_sense_is_an_exit_code_of_2_and_touches_nothing(desk: Desk, words: tuple[str, ...]) -> None:
    said = await desk.type(*words)
    assert said.exit_code == 2, said.output
    assert "Error" in said.stderr


async def test_a_database_without_the_tables_is_named_with_the_remedy(desk: Desk) -> None:
    bare = desk.settings.migrate_url.rpartition("/")[0] + "/postgres"
    said = await desk.type("list", RUSHLINE_POSTGRES_DSN=bare)
    assert (said.exit_code, "rushline migrate" in said.stderr) == (1, True), said.output
    away = await desk.type("list", RUSHLINE_POSTGRES_DSN="postgresql://x:y@127.0.0.1:9/x")
    assert (away.exit_code, "Traceback" in away.output) == (2, False)
