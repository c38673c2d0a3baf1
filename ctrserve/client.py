"""HTTP clients of a service, for threads and for asyncio. Their methods are those of `ctrserve.calls`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import anyio
import httpx

from ctrserve import calls
from ctrserve.calls import Attempts, Call, DeadlineExceeded, Predictions, Ranking, Refused, Row, Rows, Served

T = TypeVar("T")
URL = "http://127.0.0.1:8000"
DEADLINE_S = 5.0


class Client:
    """A client of a service; one keeps its connections, so share it between threads.

    Every call ends by its deadline, attempts and pauses included. A call is tried again only where that is safe: when
    nothing was sent, when the service says that it did nothing (429, 503), or when it may be repeated, as everything but a
    rollback without a target.

    Args:
        url: of the service.
        key: of the service's key file.
        deadline_s: seconds that a call may take.
        transport: replaces the network, as in tests.

    Every method raises `ctrserve.Refused`, `ctrserve.Unreachable` or `ctrserve.DeadlineExceeded`.
    """

    def __init__(
        self,
        url: str = URL,
        key: str | None = None,
        deadline_s: float = DEADLINE_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._http = httpx.Client(base_url=url, headers=_key_headers(key), transport=transport)

    def predict(self, rows: Rows) -> Predictions:
        """Return the click probability of each row; rows are mappings of fields, or columns of values by field."""
        return self._make(calls.predict(rows))

    def explain(self, rows: Rows) -> Mapping[str, Any]:
        """Return why each row has its probability, as ``/explain`` answers."""
        return self._make(calls.explain(rows))

    def rank(
        self,
        context: Row,
        candidates: Sequence[Row] | None = None,
        *,
        candidate_ids: Sequence[str] | None = None,
        top_k: int | None = None,
    ) -> Ranking:
        """Return the best candidates for a context; they are given by their fields, or by ids of the catalog."""
        return self._make(calls.rank(context, candidates, candidate_ids, top_k))

    def put_catalog(self, items: Mapping[str, Row]) -> int:
        """Replace the candidates that `rank` takes by id; return how many there are."""
        return self._make(calls.put_catalog(items))

    def model(self) -> Mapping[str, Any]:
        """Return what is served: version, fields, metrics, and what was last refused."""
        return self._make(calls.model())

    def is_ready(self) -> bool:
        """Return whether requests can be answered; asks once."""
        try:
            return self._make(calls.ready(), once=True)
        except Refused:
            return False

    def rollback(self, version: str | None = None) -> Served:
        """Serve another version until ``artifacts/current`` changes; the model before where none is named."""
        return self._make(calls.rollback(version))

    def promote(self, version: str) -> Served:
        """Make a version the current one."""
        return self._make(calls.promote(version))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self, call: Call[T], *, once: bool = False) -> T:
        attempts, content = Attempts(call, self._deadline_s), call.content
        while True:
            try:
                answer = self._http.request(
                    call.method, call.path, content=content, headers=attempts.headers(), timeout=attempts.remaining_s()
                )
            except httpx.TransportError as error:
                pause: float | None = attempts.after_error(error)
            else:
                pause = None if once else attempts.after_answer(answer)
                if pause is None:
                    return attempts.result(answer)
            time.sleep(pause or 0.0)


class AsyncClient:
    """`Client` for asyncio and trio; its methods are coroutines."""

    def __init__(
        self,
        url: str = URL,
        key: str | None = None,
        deadline_s: float = DEADLINE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._http = httpx.AsyncClient(base_url=url, headers=_key_headers(key), transport=transport)

    async def predict(self, rows: Rows) -> Predictions:
        """See `Client.predict`."""
        return await self._make(calls.predict(rows))

    async def explain(self, rows: Rows) -> Mapping[str, Any]:
        """See `Client.explain`."""
        return await self._make(calls.explain(rows))

    async def rank(
        self,
        context: Row,
        candidates: Sequence[Row] | None = None,
        *,
        candidate_ids: Sequence[str] | None = None,
        top_k: int | None = None,
    ) -> Ranking:
        """See `Client.rank`."""
        return await self._make(calls.rank(context, candidates, candidate_ids, top_k))

    async def put_catalog(self, items: Mapping[str, Row]) -> int:
        """See `Client.put_catalog`."""
        return await self._make(calls.put_catalog(items))

    async def model(self) -> Mapping[str, Any]:
        """See `Client.model`."""
        return await self._make(calls.model())

    async def is_ready(self) -> bool:
        """See `Client.is_ready`."""
        try:
            return await self._make(calls.ready(), once=True)
        except Refused:
            return False

    async def rollback(self, version: str | None = None) -> Served:
        """See `Client.rollback`."""
        return await self._make(calls.rollback(version))

    async def promote(self, version: str) -> Served:
        """See `Client.promote`."""
        return await self._make(calls.promote(version))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _make(self, call: Call[T], *, once: bool = False) -> T:
        attempts, content = Attempts(call, self._deadline_s), call.content
        while True:
            left = attempts.remaining_s()
            try:
                with anyio.fail_after(left):
                    answer = await self._http.request(
                        call.method, call.path, content=content, headers=attempts.headers(), timeout=left
                    )
            except TimeoutError as error:
                raise DeadlineExceeded(f"{call.path}: no answer in time") from error
            except httpx.TransportError as error:
                pause: float | None = attempts.after_error(error)
            else:
                pause = None if once else attempts.after_answer(answer)
                if pause is None:
                    return attempts.result(answer)
            await anyio.sleep(pause or 0.0)


def _key_headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"X-API-Key": key}
