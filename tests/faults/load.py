"""Requests at a fixed rate over kept connections, each answer compared with the one right answer of its model version."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import numpy as np
import orjson

HEADERS = {"Content-Type": "application/json"}


ROUNDING = 1e-6
"""Requests that are scored together share a matrix product, which may add in another order than one alone does."""


class Answers:
    """The right answer to every body, by model version."""

    def __init__(self) -> None:
        self._right: dict[tuple[int, str], bytes] = {}

    def learn(self, i: int, content: bytes) -> None:
        self._right[i, orjson.loads(content)["model_version"]] = content

    def is_right(self, i: int, content: bytes, *, to_the_bit: bool = True) -> bool:
        """Whether an answer to body ``i`` is that of the version it names."""
        try:
            answer = orjson.loads(content)
            right = self._right[i, answer["model_version"]]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return False
        if content == right or to_the_bit:
            return content == right
        expected = orjson.loads(right)
        found, wanted = answer.pop("predictions"), expected.pop("predictions")
        return bool(answer == expected and np.allclose(found, wanted, rtol=ROUNDING, atol=0))


@dataclass
class Tally:
    """What became of requests."""

    sent: int = 0
    errors: int = 0
    """Answers with another status than was promised, and connections that failed."""
    wrong: int = 0
    """Answers that are not those of the version they name, bit for bit."""
    worst_s: float = 0.0
    """The longest from sending a question to its answer: the service's time, whatever else the client was late with."""
    notes: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def note(self, status: int, expected: int, seconds: float, is_right: bool = True) -> None:
        with self.lock:
            self.sent += 1
            self.errors += status != expected
            self.wrong += status == expected == 200 and not is_right
            self.worst_s = max(self.worst_s, seconds)

    def __iadd__(self, other: Tally) -> Self:
        self.sent += other.sent
        self.errors += other.errors
        self.wrong += other.wrong
        self.worst_s = max(self.worst_s, other.worst_s)
        return self


class Load:
    """Asks from several threads, each with a connection of its own, at moments fixed in advance.

    A late answer does not put off the next question of another thread, and times count from the moment that was fixed, so
    that a service that stands still is seen to (coordinated omission).

    Args:
        url: of the service.
        bodies: sent in turn.
        answers: what is right.
        rate_rps: questions a second.
        num_threads: connections; with one alone answers must be right to the bit, else but for rounding.
        allowed: statuses besides 200 that are no error.
        timeout_s: of a connection.
    """

    def __init__(
        self,
        url: str,
        bodies: Sequence[bytes],
        answers: Answers,
        rate_rps: float,
        num_threads: int = 1,
        allowed: Sequence[int] = (),
        timeout_s: float = 10.0,
    ) -> None:
        self._address = urlsplit(url)
        self._bodies, self._answers = bodies, answers
        self._interval_s = num_threads / rate_rps
        self._num_threads = num_threads
        self._allowed = {200, *allowed}
        self._timeout_s = timeout_s
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.tally = Tally()
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[str] = Counter()
        self.times_s: list[tuple[float, float, int]] = []
        """When a question was due, how long its answer took, its status."""
        self.waits_s: list[tuple[float, int]] = []
        """How long an answer took since its question was sent, its status: without this client's own lateness."""

    def __enter__(self) -> Self:
        start = time.monotonic() + 0.05
        for i in range(self._num_threads):
            due = start + i * self._interval_s / self._num_threads
            self._threads.append(threading.Thread(target=self._ask, args=(i, due), daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(self._timeout_s + 5)

    def quantile_ms(self, q: float, since: float = 0.0, until: float = np.inf) -> float:
        """Return a quantile of the times of answers due from ``since`` to ``until`` (monotonic), in milliseconds."""
        times = [t for due, t, status in self.times_s if since <= due < until and status == 200]
        return float(np.quantile(times, q)) * 1000

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(
            self._address.hostname or "", self._address.port or 0, timeout=self._timeout_s
        )

    def _ask(self, thread: int, due: float) -> None:
        connection = self._connect()
        n = thread
        while not self._is_over.wait(max(0.0, due - time.monotonic())):
            i = n % len(self._bodies)
            sent = time.monotonic()
            try:
                connection.request("POST", "/predict", self._bodies[i], HEADERS)
                answer = connection.getresponse()
                status, content = answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                status, content = 0, b""
                connection.close()
                connection = self._connect()
            now = time.monotonic()
            seconds, wait_s = now - due, now - sent
            self.statuses[status] += 1
            self.waits_s.append((wait_s, status))
            self.times_s.append((due, seconds, status))
            is_right = status != 200 or self._answers.is_right(i, content, to_the_bit=self._num_threads == 1)
            if status == 200:
                self.versions[orjson.loads(content)["model_version"]] += 1
            # The longest of all shows a service that stands still without the questions that had to queue behind it here.
            self.tally.note(200 if status in self._allowed else status, 200, wait_s, is_right)
            n += self._num_threads
            due += self._interval_s
            if due < time.monotonic() - 1:  # never so far behind that catching up is a flood
                due = time.monotonic()
        connection.close()
