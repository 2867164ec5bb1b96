"""What a process can afford in tries in place."""

from workers.retry_budget import RetryBudget


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _spent(budget: RetryBudget) -> int:
    tries = 0
    while budget.afford():
        tries += 1
    return tries


def test_a_fresh_process_can_afford_some_tries_and_then_no_more() -> None:
    assert _spent(RetryBudget(_Clock())) == 20


def test_twenty_successes_pay_for_one_try() -> None:
    budget = RetryBudget(_Clock())
    _spent(budget)
    for _ in range(210):
        budget.succeeded()
    assert _spent(budget) == 10


def test_five_tries_a_second_are_affordable_whatever_happens() -> None:
    clock = _Clock()
    budget = RetryBudget(clock)
    _spent(budget)
    clock.now = 2.0
    assert _spent(budget) == 10


def test_a_long_quiet_time_saves_up_no_more_than_a_full_bucket() -> None:
    clock = _Clock()
    budget = RetryBudget(clock)
    clock.now = 3_600.0
    for _ in range(10_000):
        budget.succeeded()
    assert _spent(budget) == 20
