"""The circuit breaker, on a clock that the tests turn."""

import random

import pytest

from app.embeddings.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class NoJitter(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock, NoJitter())


def test_the_fifth_failure_in_a_row_opens_it_and_only_that_one_says_so(breaker: Breaker) -> None:
    assert [breaker.failed() for _ in range(7)] == [False] * 4 + [True, False, False]
    assert breaker.is_open


def test_a_success_in_between_starts_the_count_again(breaker: Breaker) -> None:
    for _ in range(4):
        breaker.failed()
    breaker.succeeded()
    assert [breaker.failed() for _ in range(5)] == [False] * 4 + [True]


def test_half_of_twenty_calls_failing_opens_it(breaker: Breaker) -> None:
    opened = []
    for _ in range(10):
        breaker.succeeded()
        opened.append(breaker.failed())
    assert opened == [False] * 9 + [True]


def test_fewer_than_half_failing_leaves_it_closed(breaker: Breaker) -> None:
    for _ in range(100):
        breaker.succeeded()
        breaker.succeeded()
        assert not breaker.failed()


def test_failures_older_than_ten_seconds_are_forgotten(breaker: Breaker, clock: Clock) -> None:
    for _ in range(9):
        breaker.failed()
        breaker.succeeded()
    clock.now += 10
    assert not breaker.failed()
    clock.now -= 1.0  # a clock that goes back does no harm
    breaker.succeeded()
    assert not breaker.is_open


def test_within_ten_seconds_they_are_not(breaker: Breaker, clock: Clock) -> None:
    for _ in range(9):
        breaker.failed()
        breaker.succeeded()
    clock.now += 9
    breaker.succeeded()
    assert breaker.failed()


def test_probes_are_due_at_growing_intervals(breaker: Breaker, clock: Clock) -> None:
    breaker.trip()
    delays = []
    for _ in range(6):
        delays.append(breaker.probe_delay_s())
        clock.now += delays[-1]
        assert breaker.probe_delay_s() == 0
        breaker.probe_failed()
    assert delays == pytest.approx([0.5, 1, 2, 4, 5, 5])


def test_jitter_spreads_the_probes_by_a_fifth(clock: Clock) -> None:
    delays = []
    for seed in range(200):
        breaker = Breaker(clock, random.Random(seed))
        breaker.trip()
        delays.append(breaker.probe_delay_s())
    assert 0.4 <= min(delays) < 0.42
    assert 0.58 < max(delays) <= 0.6


def test_a_probe_that_succeeds_closes_it_with_a_clean_slate(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        breaker.failed()
    breaker.probe_failed()
    assert breaker.probe_succeeded()
    assert not breaker.is_open
    assert [breaker.failed() for _ in range(5)] == [False] * 4 + [True]
    assert breaker.probe_delay_s() == pytest.approx(0.5)


def test_a_probe_that_succeeds_while_closed_changes_nothing(breaker: Breaker) -> None:
    assert not breaker.probe_succeeded()
    assert not breaker.is_open


def test_calls_that_end_late_do_not_move_an_open_breaker(breaker: Breaker) -> None:
    assert breaker.trip()
    assert not breaker.trip()
    breaker.succeeded()
    assert not breaker.failed()
    assert breaker.is_open
