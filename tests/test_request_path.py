"""The files that a request passes are those that docs/architecture.md names."""

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings
from tests.in_process import ask, running
from tests.making import make_artifact

pytest.importorskip("models._native", reason="built without a C compiler")

ROOT = Path(__file__).parents[1]
BODY = json.dumps({"instances": [{"user_id": 7, "ad_id": "ad3", "price": 1.5}]}).encode()
PROTOCOL = "app/http/guarded_protocol.py"  # stands before the ASGI app


@contextmanager
def files_that_run() -> Iterator[set[str]]:
    """Collect the files of `app` and `models` whose functions are called."""
    seen: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith((f"{ROOT}/app/", f"{ROOT}/models/")):
            seen.add(str(Path(path).relative_to(ROOT)))

    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(None)


async def files_of_a_request(app: Any) -> set[str]:
    """Start the app, and trace a request that is not the first."""
    async with running(app):
        assert (await ask(app, BODY))[0] == 200
        with files_that_run() as seen:
            assert (await ask(app, BODY))[0] == 200
    return seen


def test_a_request_passes_the_files_that_the_architecture_page_names(tmp_path: Path) -> None:
    make_artifact(tmp_path)
    (tmp_path / "keys").write_text(f"caller predict {hashlib.sha256(b'secret').hexdigest()} 1000\n")
    app = create_app(Settings(artifacts=tmp_path, keys=tmp_path / "keys", drain_s=0))
    section = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("\n## One request\n", 1)[1]
    way = re.findall(r"^\d+\. `([\w/]+\.py)`", section, re.MULTILINE)
    helpers = re.findall(r"`((?:app|models)/[\w/]+\.py)`", section.split("\nThey call ", 1)[1])
    assert len(way) <= 10
    assert asyncio.run(files_of_a_request(app)) == {*way, *helpers} - {PROTOCOL}
