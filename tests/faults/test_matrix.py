"""Every fault of the matrix, as a test; and the page that promises what the matrix shows."""

import re
from pathlib import Path

import pytest

from tests.faults.all_faults import FAULTS
from tests.faults.load import Tally
from tests.faults.matrix import Arena, Fault, make_arena

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Arena:
    return make_arena(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("one", FAULTS, ids=lambda one: one.id)
def test_the_service_keeps_its_promise(made: Arena, one: Fault, tmp_path: Path) -> None:
    made.directory, made.tally = tmp_path, Tally()
    one.run(made)
    assert made.tally.sent > 0
    assert (made.tally.errors, made.tally.wrong) == (0, 0)


def test_the_page_has_a_row_for_each_fault_with_its_promise() -> None:
    rows = re.findall(
        r"^\| ([A-E]\d+) \| (.+?) \| (.+?) \| `tests/faults` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert rows == [(one.id, one.what, one.promise) for one in FAULTS]
