"""What a client sends and gets, without a transport: requests, answers, errors, and when a call is tried again.

ServiceError
├── Refused            the service answered that it will not; has ``status``, ``code``, ``errors`` and ``request_id``
├── Unreachable        no answer: nothing listens there, or the connection broke
└── DeadlineExceeded   no answer in time
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
import orjson

T = TypeVar("T")
Row = Mapping[str, object]

MAX_ATTEMPTS = 4
FIRST_PAUSE_S = 0.05
BUSY = frozenset({429, 503})
"""Answers of a service, or of what stands before it, that did nothing with the request."""
NOTHING_WAS_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class ServiceError(Exception):
    """Base of what a client raises."""


class Refused(ServiceError):
    """The service refused a request.

    Args:
        status: of the HTTP answer.
        problem: its body (RFC 9457), or nothing where it has none.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code: str = problem.get("code", "unknown")
        self.errors: Sequence[Mapping[str, Any]] = problem.get("errors", ())
        self.request_id: str | None = problem.get("request_id")
        said = [
            problem.get("title", "no problem details"),
            problem.get("detail"),
            *(e["message"] for e in self.errors[:1]),
        ]
        super().__init__(f"{status} {self.code}: {': '.join(filter(None, said))}")


class Unreachable(ServiceError):
    """There was no answer."""


class DeadlineExceeded(ServiceError):
    """There was no answer in time."""


@dataclass(frozen=True)
class Predictions:
    """The answer of ``/predict``: a click probability for each row, and how many rows had what was not known."""

    probabilities: list[float]
    model_version: str
    missing: Mapping[str, int] = field(default_factory=dict)
    unseen: Mapping[str, int] = field(default_factory=dict)
    unknown_fields: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranking:
    """The answer of ``/rank``: places among the candidates of the request, the best first, and their probabilities."""

    indices: list[int]
    probabilities: list[float]
    model_version: str
    not_in_catalog: Sequence[int] = ()
    missing: Mapping[str, int] = field(default_factory=dict)
    unseen: Mapping[str, int] = field(default_factory=dict)
    unknown_fields: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Served:
    """What the service serves now, and what it served before."""

    model_version: str
    previous: str | None


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request.

    Args:
        method: of HTTP.
        path: of the service.
        read: makes the result of the answer's JSON.
        body: sent as JSON; ``None`` for none.
        may_repeat: whether it does no harm when the service gets it twice.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    body: object = None
    may_repeat: bool = True

    @property
    def content(self) -> bytes | None:
        """The body's bytes."""
        return None if self.body is None else orjson.dumps(self.body, option=orjson.OPT_SERIALIZE_NUMPY)


Rows = Sequence[Row] | Mapping[str, Sequence[object]]
"""Impressions as mappings of fields, or as columns of values by field."""


def predict(rows: Rows) -> Call[Predictions]:
    """Return the call that asks for the probabilities of rows."""
    return Call("POST", "/predict", lambda found: _made(Predictions, found, predictions="probabilities"), _given(rows))


def explain(rows: Rows) -> Call[Mapping[str, Any]]:
    """Return the call that asks why rows have their probabilities."""
    return Call("POST", "/explain", dict, _given(rows))


def _given(rows: Rows) -> Mapping[str, object]:
    return {"inputs": rows} if isinstance(rows, Mapping) else {"instances": rows}


def rank(
    context: Row, candidates: Sequence[Row] | None, candidate_ids: Sequence[str] | None, top_k: int | None
) -> Call[Ranking]:
    """Return the call that asks for the best candidates."""
    given = {"context": context, "candidates": candidates, "candidate_ids": candidate_ids, "top_k": top_k}
    body = {name: value for name, value in given.items() if value is not None}
    return Call("POST", "/rank", lambda found: _made(Ranking, found), body)


def put_catalog(items: Mapping[str, Row]) -> Call[int]:
    """Return the call that replaces the catalog; its result is the number of candidates."""
    return Call("PUT", "/catalog", lambda found: int(found["items"]), {"items": items})


def model() -> Call[Mapping[str, Any]]:
    """Return the call that asks what is served."""
    return Call("GET", "/model", dict)


def ready() -> Call[bool]:
    """Return the call that asks whether requests can be answered."""
    return Call("GET", "/health/ready", lambda found: True)


def rollback(version: str | None) -> Call[Served]:
    """Return the call that goes back to a version; without one, to the model before: twice would be back again."""
    body = None if version is None else {"version": version}
    return Call("POST", "/admin/rollback", lambda found: _made(Served, found), body, may_repeat=version is not None)


def promote(version: str) -> Call[Served]:
    """Return the call that makes a version the current one."""
    return Call("POST", "/admin/promote", lambda found: _made(Served, found), {"version": version})


def _made(kind: type[T], found: Mapping[str, Any], **renamed: str) -> T:
    # Parts that a later service adds are left out.
    known = {renamed.get(name, name): value for name, value in found.items()}
    names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: value for name, value in known.items() if name in names})


class Attempts(Generic[T]):
    """The attempts of one call until its deadline.

    Args:
        call: to make.
        deadline_s: seconds for all attempts together.
        clock: seconds, never going back.
    """

    def __init__(self, call: Call[T], deadline_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._call = call
        self._clock = clock
        self._end = clock() + deadline_s
        self._count = 0

    def remaining_s(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            DeadlineExceeded: there are none.
        """
        left = self._end - self._clock()
        if left <= 0:
            raise DeadlineExceeded(f"{self._call.path}: no answer in time")
        return left

    def headers(self) -> dict[str, str]:
        """Return the headers of an attempt; the service does not begin what would be too late."""
        headers = {"X-Request-Timeout-Ms": str(max(1, int(1000 * self.remaining_s())))}
        return headers if self._call.body is None else headers | {"Content-Type": "application/json"}

    def after_error(self, error: httpx.TransportError) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            Unreachable, DeadlineExceeded: there is none.
        """
        if isinstance(error, NOTHING_WAS_SENT) or (
            self._call.may_repeat and not isinstance(error, httpx.TimeoutException)
        ):
            pause = self._pause(0.0)
            if pause is not None:
                return pause
        if isinstance(error, httpx.TimeoutException):
            raise DeadlineExceeded(f"{self._call.path}: no answer in time") from error
        raise Unreachable(f"{self._call.path}: {error or type(error).__name__}") from error

    def after_answer(self, answer: httpx.Response) -> float | None:
        """Return the seconds to wait before the next attempt; ``None`` where the answer is the last word."""
        if answer.status_code in BUSY or (answer.status_code == httpx.codes.BAD_GATEWAY and self._call.may_repeat):
            asked = answer.headers.get("retry-after", "0")
            return self._pause(float(asked) if asked.isdigit() else 0.0)
        return None

    def result(self, answer: httpx.Response) -> T:
        """Return the result of the last answer.

        Raises:
            Refused: the service will not.
        """
        try:
            found = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            found = {}
        if answer.is_success:
            return self._call.read(found)
        raise Refused(answer.status_code, found if isinstance(found, Mapping) else {})

    def _pause(self, at_least_s: float) -> float | None:
        self._count += 1
        longest = FIRST_PAUSE_S * 2**self._count
        pause = max(at_least_s, random.uniform(longest / 2, longest))
        if self._count >= MAX_ATTEMPTS or self._clock() + pause >= self._end:
            return None
        return pause
