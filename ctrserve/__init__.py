"""A model in Python, and a client of a service; the command is ``ctrserve``.

``ctrserve.load("artifacts").predict(frame)`` scores in this process, ``ctrserve.Client(url).predict(rows)`` asks a service.
Nothing is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctrserve.calls import DeadlineExceeded, Predictions, Ranking, Refused, Served, ServiceError, Unreachable
    from ctrserve.client import AsyncClient, Client
    from ctrserve.model import Model, load
    from ctrserve.report import Report

__all__ = [
    "AsyncClient", "Client", "DeadlineExceeded", "Model", "Predictions", "Ranking", "Refused", "Report", "Served", "ServiceError",
    "Unreachable", "load",
]  # fmt: skip

_HOMES = {
    "ctrserve.model": ("Model", "load"),
    "ctrserve.report": ("Report",),
    "ctrserve.client": ("AsyncClient", "Client"),
    "ctrserve.calls": (
        "DeadlineExceeded", "Predictions", "Ranking", "Refused", "Served", "ServiceError", "Unreachable",
    ),
}  # fmt: skip


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            try:
                return getattr(import_module(module), name)
            except ModuleNotFoundError as error:
                if error.name not in ("anyio", "httpx"):
                    raise
                needs = f"ctrserve.{name} needs the extra 'client': pip install 'ctrserve[client]'"
                raise ModuleNotFoundError(needs, name=error.name) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
