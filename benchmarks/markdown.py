"""Markdown tables, figures and conditions for ``docs/performance.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MIB = 2**20
BESIDE: Mapping[str, tuple[str, ...]] = {
    "100 rows @1": ("100 columns @1",),
    "1000 rows @1": ("1000 columns @1", "rank 1000 @1"),
}
"""Scenario of other servers → scenarios that only ctrserve has and that are compared with it."""
Result = Mapping[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table.

    >>> print(table(["a", "b"], [[1, 2]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    text = ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    text[1] = text[1].replace(" ", "")
    return "\n".join(text)


def conditions_of(result: Result) -> str:
    """Return the conditions of a result in one sentence."""
    machine, versions = result["machine"], result["versions"]
    python = f"Python {versions['python']}, numpy {versions.get('numpy', '?')}"
    return (
        f"*{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['flags'])}), {python}; "
        f"commit {result['commit']}{' with changes' if result['dirty'] else ''}, {result['date']}, seed {result['seed']}, "
        f"{result['threads']} thread, load average before {machine['load_average_before']}: `{result['command']}`*"
    )


def number(value: float) -> str:
    """Return a number with three significant digits and thousands separators.

    >>> number(12345.6), number(9.876), number(0.04)
    ('12,346', '9.88', '0.04')
    """
    return f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.3g}'):g}"
