"""A model in Python: ``ctrserve.load("artifacts").predict(frame)``. The command is ``ctrserve``.

Nothing is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctrserve.model import Model, load

__all__ = ["Model", "load"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from ctrserve import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
