"""Signed checkpoints are kept as files from which a crash in the middle of a write takes nothing away."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit.checkpoint_files import CheckpointFiles

NOW = datetime(2026, 3, 14, 23, 59, tzinfo=UTC)


def _note(number: int) -> str:
    return f"rushline.example/audit\n{number}\nroot{number}=\n\n— rushline.example/audit c2ln{number}\n— witness.example d2l0\n"


def test_notes_come_back_in_their_order_over_days(tmp_path: Path) -> None:
    files = CheckpointFiles(tmp_path / "checkpoints")
    assert (files.last(), list(files.notes())) == (None, [])
    for number in range(4):
        files.append(_note(number), NOW + timedelta(minutes=number))
    assert list(files.notes()) == [_note(number) for number in range(4)]
    assert files.last() == _note(3)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2026-03-14.txt", "2026-03-15.txt"]


@pytest.mark.parametrize("kept", range(1, len(_note(1).encode()) + 1))
def test_a_write_that_was_cut_off_anywhere_is_passed_over_and_then_gone(tmp_path: Path, kept: int) -> None:
    files = CheckpointFiles(tmp_path)
    files.append(_note(0), NOW)
    path = tmp_path / "2026-03-14.txt"
    path.write_bytes(path.read_bytes() + _note(1).encode()[:kept])
    assert list(files.notes()) == [_note(0)]
    assert files.last() == _note(0)
    files.append(_note(2), NOW)
    assert list(files.notes()) == [_note(0), _note(2)]


def test_a_day_that_begins_with_a_cut_off_write_is_no_note(tmp_path: Path) -> None:
    files = CheckpointFiles(tmp_path)
    (tmp_path / "2026-03-14.txt").write_bytes(_note(1).encode()[:10])
    assert files.last() is None
    files.append(_note(2), NOW)
    assert list(files.notes()) == [_note(2)]
