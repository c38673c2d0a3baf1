"""The Redis tier: a copy of rows of the long tail, shared by small workers. Whatever it does, the table answers.

One task of the process reads. Requests queue their keys and wait, each no longer than its budget. A request that gives up
leaves the socket alone, so a reply always belongs to the command that asked for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, InvalidResponse, NoPermissionError, ResponseError

from app.embeddings.bounded_parser import BoundedParser
from app.embeddings.breaker import Breaker
from app.embeddings.redis_pipeline import send_commands
from app.embeddings.row_codec import Outcome, RowCodec
from app.embeddings.state_log import StateLog, describe
from app.embeddings.write_behind import WriteBehind
from app.observability.metrics import Telemetry

MAX_COMMAND_KEYS = 512
MAX_BATCH_KEYS = 4_096
FIRST_PROBE_KEY = b"ctr:probe"
DOUBT_S = 0.5
"""Seconds between a look-up that failed and a probe, where no other look-up has succeeded meanwhile."""
VALUE_TYPES = frozenset((bytes, type(None)))
REFUSALS = (AuthenticationError, AuthorizationError, NoPermissionError)


class _Lookup:
    """One request's keys, and the values that have come for them so far."""

    __slots__ = ("answered", "num_open", "values")

    def __init__(self, num_keys: int, answered: asyncio.Future[None]) -> None:
        self.values: list[object] = [Outcome.TIMEOUT] * num_keys
        self.num_open = num_keys
        self.answered = answered

    def deliver(self, position: int, value: object) -> None:
        self.values[position] = value
        self.num_open -= 1
        if not self.num_open:
            self.stop_waiting()

    def stop_waiting(self) -> None:
        if not self.answered.done():
            self.answered.set_result(None)


class RedisRows:
    """The process's access to Redis, shared by the sources of all table versions; made inside an event loop.

    It is available until the breaker opens: after several failures, a refusal, or a failed probe. A probe asks for the keys
    of the last look-up that failed, so that it succeeds only where that look-up would. One is sent at the start, soon
    after a failure that no success followed (so that a single one is noticed where there is little traffic), and while
    the breaker is open.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout_ms: the longest that a request waits, and that a socket stays silent.
        ttl_s: seconds until a row expires.
        telemetry: counts writes, times batches, shows the breaker; sources count rows.
        clock: seconds, never going back.
        rng: spreads expiry and probes.
    """

    def __init__(
        self,
        url: str,
        timeout_ms: float,
        ttl_s: float,
        telemetry: Telemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        rng = rng or random.Random()
        self._timeout_s = timeout_ms / 1000
        self._telemetry = telemetry
        self._clock = clock
        self._client = Redis.from_url(
            url,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            max_connections=3,  # of reading, writing behind and probing
            decode_responses=False,
            parser_class=BoundedParser,
            # RESP2 and no client information: nothing that an access list would have to allow.
            protocol=2,
            driver_info=None,
        )
        self._log = StateLog(clock)
        self._breaker = Breaker(clock, rng)
        self._waiters: dict[bytes, list[tuple[_Lookup, int]]] = {}  # queued or in flight
        self._queued: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._has_failed = asyncio.Event()
        """Set from a look-up that fails until one, or a probe, succeeds; at the start too."""
        self._has_failed.set()
        self._probe_keys = [FIRST_PROBE_KEY]
        self._is_closed = False
        self._is_refused = False
        self._told: set[type[Exception]] = set()  # kinds of failure logged since Redis last answered
        self._writer = WriteBehind(self._client, ttl_s, telemetry, clock, rng, self._log)
        telemetry.breaker_open.set(0)
        self._tasks = [asyncio.create_task(job()) for job in (self._read, self._probe, self._writer.run)]

    @property
    def is_available(self) -> bool:
        """Whether requests may ask."""
        return not (self._breaker.is_open or self._is_closed)

    def state(self) -> Literal["ok", "unavailable"]:
        """Return what readiness shows: ``ok`` when the last look-up or probe succeeded."""
        return "ok" if self.is_available and not self._has_failed.is_set() else "unavailable"

    async def fetch(self, codec: RowCodec, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Ask for the distinct ``ids`` int64 [n] of a table; returns as `RowCodec.decode` does, within the budget."""
        if not len(ids) or not self.is_available:
            return codec.without_answer(len(ids), Outcome.SKIPPED)
        loop = asyncio.get_running_loop()
        lookup = _Lookup(len(ids), loop.create_future())
        keys = codec.keys(ids)
        for position, key in enumerate(keys):
            waiters = self._waiters.get(key)
            if waiters is None:
                self._waiters[key] = [(lookup, position)]
                self._queued.append(key)
            else:
                waiters.append((lookup, position))
        self._wake.set()
        timer = loop.call_later(self._timeout_s, lookup.stop_waiting)
        try:
            await lookup.answered
        finally:
            timer.cancel()
        rows, outcomes = codec.decode(ids, lookup.values)
        worst = outcomes.max()
        if worst in (Outcome.ERROR, Outcome.TIMEOUT):
            self._probe_keys = keys[:MAX_COMMAND_KEYS]
            self._has_failed.set()
        elif worst < Outcome.ERROR and not self._breaker.is_open:  # an open breaker is closed by a probe alone
            self._has_failed.clear()
        return rows, outcomes

    def remember(self, codec: RowCodec, ids: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Queue rows float32 [n, D] that Redis does not hold for being written."""
        if self.is_available:
            self._writer.put(codec, ids, rows)

    async def aclose(self) -> None:
        """Stop the tasks, answer waiting requests without Redis, close the connections."""
        self._is_closed = True
        self._log.close()
        running = set(self._tasks)
        while running:  # more than once: redis-py's `asyncio.wait_for` may swallow a cancellation in Python 3.11
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=0.05)
        self._queued.clear()
        self._deliver(list(self._waiters), [Outcome.SKIPPED] * len(self._waiters))
        await self._client.aclose()

    async def _read(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while keys := self._next_batch():
                await self._read_batch(keys)

    def _next_batch(self) -> list[bytes]:
        """Return the keys that have waited longest, without those that nobody waits for any more."""
        keys: list[bytes] = []
        while self._queued and len(keys) < MAX_BATCH_KEYS:
            key = self._queued.popleft()
            waiters = self._waiters[key]
            if waiters[-1][0].answered.done() and all(lookup.answered.done() for lookup, _ in waiters):
                del self._waiters[key]
            else:
                keys.append(key)
        return keys

    async def _read_batch(self, keys: Sequence[bytes]) -> None:
        values: Sequence[object]
        started = self._clock()
        try:
            if self._breaker.is_open:
                values = [Outcome.SKIPPED] * len(keys)
            else:
                values = await self._mget(keys)
                if self._clock() - started <= self._timeout_s:
                    self._breaker.succeeded()
                else:  # each reply was in time, but all of them together came too late for a request
                    self._note_failure(TimeoutError("too slow"))
        except Exception as error:  # noqa: BLE001  # whatever redis-py raises, the table answers
            values = [Outcome.ERROR] * len(keys)
            self._note_failure(error)
        self._deliver(keys, values)

    def _deliver(self, keys: Sequence[bytes], values: Sequence[object]) -> None:
        for key, value in zip(keys, values, strict=True):
            for lookup, position in self._waiters.pop(key):
                lookup.deliver(position, value)

    async def _mget(self, keys: Sequence[bytes]) -> list[object]:
        started = time.perf_counter()
        chunks = [keys[i : i + MAX_COMMAND_KEYS] for i in range(0, len(keys), MAX_COMMAND_KEYS)]
        values: list[object] = []
        replies = await send_commands(self._client, [(b"MGET", *chunk) for chunk in chunks])
        for chunk, reply in zip(chunks, replies, strict=True):
            if isinstance(reply, ResponseError):
                raise reply
            if not isinstance(reply, list) or len(reply) != len(chunk) or not VALUE_TYPES.issuperset(map(type, reply)):
                # Unread replies may stand in the sockets.
                await self._client.connection_pool.disconnect(inuse_connections=False)
                raise InvalidResponse("the reply to MGET is not a list of values")
            values += reply
        self._telemetry.redis_seconds.observe(time.perf_counter() - started)
        return values

    async def _probe(self) -> None:
        while True:
            if self._has_failed.is_set() or self._breaker.is_open:
                await self._probe_once()
            await self._has_failed.wait()
            await asyncio.sleep(self._breaker.probe_delay_s() if self._breaker.is_open else DOUBT_S)

    async def _probe_once(self) -> None:
        try:
            # Twice when it took too long: the first may have had to connect.
            if await self._probe_s() > self._timeout_s and await self._probe_s() > self._timeout_s:
                raise TimeoutError("too slow")
        except Exception as error:  # noqa: BLE001  # whatever redis-py raises, the probe has failed
            self._breaker.probe_failed()
            self._note_failure(error, is_fatal=True)
            return
        self._has_failed.clear()
        if self._breaker.probe_succeeded():
            self._telemetry.breaker_open.set(0)
            self._told.clear()
            self._is_refused = False
            self._log.say(logging.INFO, "Redis answers again")

    async def _probe_s(self) -> float:
        started = self._clock()
        await self._mget(self._probe_keys)
        return self._clock() - started

    def _note_failure(self, error: Exception, *, is_fatal: bool = False) -> None:
        # While connecting, redis-py wraps the server's error.
        is_refusal = isinstance(error, REFUSALS) or isinstance(error.__cause__, REFUSALS)
        has_opened = self._breaker.trip() if is_fatal or is_refusal else self._breaker.failed()
        if has_opened:
            self._telemetry.breaker_open.set(1)
            self._has_failed.set()
        if not self._breaker.is_open or self._is_refused or type(error) in self._told:
            return
        self._told.add(type(error))
        if is_refusal:
            self._is_refused = True  # what fails from now on fails for the same reason
            line = f"Redis refuses us ({describe(error)}); rows come from the table until that is mended"
            self._log.say(logging.ERROR, line)
        else:
            self._log.say(logging.WARNING, f"Redis is left alone ({describe(error)}); rows come from the table")
