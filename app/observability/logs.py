"""Logs as one JSON object a line, by structlog; plain text where a person watches. Never a value that a client sent."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import orjson
import structlog

log = logging.getLogger("ctrserve.requests")

LINES_PER_S = 10
MAX_WAITING_LINES = 1_000
FLOODABLE = ("uvicorn.error", "ctrserve", "py.warnings")
"""Loggers with lines that a client can bring about: a request that is none, a defect that it has found, a sum too large."""


def configure_logging() -> None:
    """Send everything that any library logs to stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(
        serializer=lambda event, **_: orjson.dumps(event, default=repr).decode()
    )
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_colours, renderer],
    )
    root = logging.getLogger()
    root.handlers[:] = [BehindHandler(formatter)]
    root.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)  # numpy's, of sums too large, would be lines that are no JSON
    for name in FLOODABLE:
        logger = logging.getLogger(name)
        if not any(isinstance(found, FewLines) for found in logger.filters):
            logger.addFilter(FewLines())


class BehindHandler(logging.Handler):
    """Writes lines to stderr from a thread of its own: a pipe that nobody reads must not stop the service.

    Lines that find no room, or cannot be written, are counted; the next one says in ``dropped`` how many they are by now.

    Args:
        formatter: makes the lines.
    """

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING_LINES)
        self._num_without_room = self._num_unwritten = 0  # each changed by one thread alone
        self._num_told = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()
        atexit.register(self._finish)

    def emit(self, record: logging.LogRecord) -> None:
        """Leave a line to the thread, or drop it when there is no room."""
        num_dropped = self._num_without_room + self._num_unwritten
        if num_dropped != self._num_told:
            record.__dict__["dropped"] = num_dropped
        try:
            self._lines.put_nowait(self.format(record) + "\n")
            self._num_told = num_dropped
        except queue.Full:
            self._num_without_room += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                os.write(2, line.encode())
            except OSError:  # nobody reads any more, or there is no room
                self._num_unwritten += 1

    def _finish(self) -> None:
        with suppress(queue.Full):
            self._lines.put_nowait(None)
            self._thread.join(1.0)


def _without_colours(
    logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event.pop("color_message", None)  # uvicorn's second copy of a line
    return event


class LineBudget:
    """At most ten lines a second; the rest are counted.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = -1
        self._num_lines = 0
        self._num_left_out = 0

    def take(self) -> int | None:
        """Return how many lines were left out since the last one that was not, ``None`` when this one must be too."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._num_lines = second, 0
        if self._num_lines >= LINES_PER_S:
            self._num_left_out += 1
            return None
        self._num_lines += 1
        num_left_out, self._num_left_out = self._num_left_out, 0
        return num_left_out


class FewLines(logging.Filter):
    """Lets a logger write at most ten lines a second of each level; the next line says in ``left_out`` how many it did not.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._budgets: dict[int, LineBudget] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass, or count it."""
        num_left_out = self._budgets.setdefault(record.levelno, LineBudget(self._clock)).take()
        if num_left_out:
            record.__dict__["left_out"] = num_left_out
        return num_left_out is not None


class RequestLog:
    """A line for each request that was not answered with success, at most ten a second; the rest are counted.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._budget = LineBudget(clock)

    def note(self, path: str, status: int, code: str | None, request_id: str, key: str | None, seconds: float) -> None:
        """Log one refusal or failure.

        Args:
            path: its label in the metrics, not what the client sent.
            status: of the answer.
            code: the problem's.
            request_id: the trace id.
            key: name of the API key, where there is one.
            seconds: from the first byte to the answer.
        """
        num_left_out = self._budget.take()
        if num_left_out is None:
            return
        facts = {"path": path, "status": status, "code": code, "request_id": request_id, "key": key}
        facts |= {"ms": round(seconds * 1000, 3), "left_out": num_left_out or None}
        level = logging.INFO if status < 500 else logging.WARNING
        log.log(level, "not answered", extra={name: fact for name, fact in facts.items() if fact is not None})
