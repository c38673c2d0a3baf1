"""``python -m benchmarks.page``: renders ``docs/performance.md`` from ``performance_notes.md`` and the newest results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.conditions import RESULTS, read
from benchmarks.markdown import Result
from benchmarks.page_sections import memory_section, redis_section, scaling_section, scoring_section
from benchmarks.page_serving import serving_section

NOTES = Path(__file__).parent / "performance_notes.md"
DOCS = Path(__file__).parents[1] / "docs"
INTRODUCTION = """# Performance

Made by `python -m benchmarks.page` from `benchmarks/results/` and `benchmarks/performance_notes.md`; do not edit. Each
section names its machine and commit. Read the figures as ratios.
"""
SECTIONS: Mapping[str, Callable[[Result], str]] = {
    "serving": serving_section,
    "scaling": scaling_section,
    "scoring": scoring_section,
    "memory": memory_section,
    "redis_tier": redis_section,
}


def render(docs: Path = DOCS, results: Path = RESULTS) -> Path:
    """Write the page and return it."""
    docs.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION, NOTES.read_text(encoding="utf-8")]
    for name, section in SECTIONS.items():
        result = read(name, results)
        if result is not None:
            parts.append(section(result))
    page = docs / "performance.md"
    page.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    return page


if __name__ == "__main__":
    print(render())
