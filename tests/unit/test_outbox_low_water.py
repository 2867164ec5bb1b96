"""The low-water mark against a model of PostgreSQL's transaction numbers and sequence, in every order of commits."""

from hypothesis import given, settings
from hypothesis import strategies as st

from outbox.low_water import LowWater


class Database:
    """Numbers of transactions, ids of rows, and who sees what: as PostgreSQL gives them."""

    def __init__(self) -> None:
        self.next_transaction, self.last_id = 10, 0
        self.running: dict[int, list[int]] = {}
        self.visible: set[int] = set()
        self.newest_ended = 9

    def begin(self) -> int:
        """A transaction that has its number, as every writing one has before its first row."""
        number, self.next_transaction = self.next_transaction, self.next_transaction + 1
        self.running[number] = []
        return number

    def insert(self, number: int) -> None:
        self.last_id += 1
        self.running[number].append(self.last_id)

    def end(self, number: int, *, commit: bool) -> None:
        rows = self.running.pop(number)
        self.newest_ended = max(self.newest_ended, number)
        if commit:
            self.visible |= set(rows)

    def horizon(self) -> tuple[int, int, int]:
        """Last id, the snapshot's xmin (which knows nothing above the newest ended transaction), and a number of its own."""
        xmax = self.newest_ended + 1
        xmin = min((number for number in self.running if number < xmax), default=xmax)
        last_id, own = self.last_id, self.begin()
        self.end(own, commit=True)
        return last_id, xmin, own


def _read_and_publish(database: Database, low: LowWater, batch: int) -> None:
    seen = sorted(id_ for id_ in database.visible if id_ > low.mark)[:batch]
    low.settle(seen[0] if seen else None)
    database.visible -= set(seen)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_the_mark_never_passes_a_row_that_appears_later(data: st.DataObject) -> None:
    database, low = Database(), LowWater()
    for _ in range(data.draw(st.integers(1, 40), "steps")):
        step = data.draw(st.sampled_from(["begin", "insert", "insert", "commit", "abort", "look", "look", "read"]))
        running = sorted(database.running)
        match step:
            case "begin":
                database.begin()
            case "insert" if running:
                database.insert(data.draw(st.sampled_from(running)))
            case "commit" | "abort" if running:
                database.end(data.draw(st.sampled_from(running)), commit=step == "commit")
            case "look":
                low.observe(*database.horizon())
            case "read":
                before = low.mark
                _read_and_publish(database, low, data.draw(st.integers(1, 3), "batch"))
                assert low.mark >= before
            case _:
                pass
        still_to_come = [*database.visible, *(id_ for rows in database.running.values() for id_ in rows)]
        assert all(id_ > low.mark for id_ in still_to_come)


def test_the_mark_reaches_the_last_row_once_all_is_published() -> None:
    database, low = Database(), LowWater()
    for _ in range(5):
        number = database.begin()
        database.insert(number)
        database.end(number, commit=True)
    for _ in range(2):
        low.observe(*database.horizon())
        _read_and_publish(database, low, 10)
    assert low.mark == 0 or database.visible == set()
    low.observe(*database.horizon())
    _read_and_publish(database, low, 10)
    assert low.mark == 5


def test_the_mark_waits_for_the_one_transaction_that_is_newer_than_all_that_have_ended() -> None:
    database, low = Database(), LowWater()
    late = database.begin()
    database.insert(late)
    for _ in range(5):
        low.observe(*database.horizon())
        _read_and_publish(database, low, 10)
    assert low.mark == 0
    database.end(late, commit=True)
    assert database.visible == {1}


def test_a_transaction_that_aborts_does_not_hold_the_mark() -> None:
    database, low = Database(), LowWater()
    gone = database.begin()
    database.insert(gone)
    low.observe(*database.horizon())
    database.end(gone, commit=False)
    for _ in range(2):
        low.observe(*database.horizon())
        _read_and_publish(database, low, 10)
    assert low.mark == 1


def test_the_mark_stays_below_the_first_row_that_remains() -> None:
    low = LowWater()
    low.observe(100, 10, 11)
    low.observe(200, 11, 12)
    low.settle(41)
    assert low.mark == 40
    low.settle(7)
    assert low.mark == 40
