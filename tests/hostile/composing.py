"""Bytes of a fuzzer → a request of the right form: changed byte by byte, few bodies would come as far as the encoder."""

from __future__ import annotations

import json
from typing import Any, Protocol


class Source(Protocol):
    """What is used of ``atheris.FuzzedDataProvider``."""

    def ConsumeIntInRange(self, least: int, most: int) -> int: ...  # noqa: N802
    def ConsumeInt(self, num_bytes: int) -> int: ...  # noqa: N802
    def ConsumeUnicode(self, num_characters: int) -> str: ...  # noqa: N802
    def ConsumeFloat(self) -> float: ...  # noqa: N802
    def ConsumeRegularFloat(self) -> float: ...  # noqa: N802


NAMES = ("user_id", "site", "clicked_ads", "ad_id", "price")


def compose(source: Source) -> bytes:
    """Return a body for one of the paths; nearly all values are of their field's type, and now and then one is not."""

    def chance(one_in: int) -> bool:
        return source.ConsumeIntInRange(0, one_in - 1) == one_in - 1

    def text() -> str:
        found = source.ConsumeUnicode(source.ConsumeIntInRange(0, 8))
        known = f"ad{source.ConsumeIntInRange(0, 50)}"
        return found if chance(3) else known

    def value(name: str) -> Any:
        if name == "user_id":
            return source.ConsumeInt(8) if chance(2) else source.ConsumeIntInRange(0, 500)
        if name == "price":
            return source.ConsumeFloat() if chance(20) else source.ConsumeRegularFloat()
        if name == "clicked_ads":
            return [text() for _ in range(source.ConsumeIntInRange(0, 6))]
        return text()

    def row(names: tuple[str, ...] = NAMES) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in names:
            if chance(10):
                continue
            found[name] = None if chance(10) else value(NAMES[source.ConsumeIntInRange(0, 4)] if chance(200) else name)
        return found

    form, number = source.ConsumeIntInRange(0, 3), source.ConsumeIntInRange(1, 4)
    rows = [row(NAMES if form < 2 else NAMES[3:]) for _ in range(number)]
    document: dict[str, Any] = {"instances": rows}
    if form == 1:
        document = {"inputs": {name: [found.get(name) for found in rows] for name in NAMES}}
    elif form == 2:
        document = {"context": row(NAMES[:3]), "candidates": rows}
    elif form == 3:
        document = {"items": {f"{i}{text()}": found for i, found in enumerate(rows)}}
    return json.dumps(document).encode()
