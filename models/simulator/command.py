"""The command ``simulate``: parses options, prints, and writes a log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from models.command_line.interrupts import quiet_interrupts
from models.errors import ModelsError

EXAMPLE = "Example: `ctrserve simulate --rows 200000 --out logs`"


def simulate_command(
    *,
    out: Annotated[Path, Option(metavar="DIR", help="Directory for the files; must not hold a log yet.")],
    rows: Annotated[int, Option(metavar="N", help="Impressions before any are dropped.")] = 200_000,
    days: Annotated[int, Option(metavar="N", help="One file each.")] = 10,
    seed: Annotated[int, Option(metavar="N", help="Same seed and options, same log.")] = 7,
    users: Annotated[int | None, Option(metavar="N", help="Users there are (default: one per 40 rows).")] = None,
    ads: Annotated[int | None, Option(metavar="N", help="Ads running at one time (default: one per 400 rows).")] = None,
    base_rate: Annotated[float, Option(metavar="X", help="Mean click probability.")] = 0.05,
    negatives_kept: Annotated[float, Option(metavar="X", help="Share of non-clicks to keep, at random.")] = 1.0,
    file_format: Annotated[Literal["parquet", "csv"], Option("--format", help="Of the files.")] = "parquet",
    as_json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a seeded ad log with known click probabilities, and its schema.

    `truth-*` files hold the probability of each row, so that a model can be compared with the best there can be.
    """
    num_users = max(20, rows // 40) if users is None else users
    num_ads = max(20, rows // 400) if ads is None else ads
    for is_valid, message in (
        (1 <= days <= rows, "--days: expected at least 1 and at most --rows"),
        (seed >= 0, "--seed: expected 0 or more"),
        (num_users >= 1, "--users: expected 1 or more"),
        (num_ads >= 1, "--ads: expected 1 or more"),
        (0.0 < base_rate <= 0.5, "--base-rate: expected more than 0 and at most 0.5"),
        (0.0 < negatives_kept <= 1.0, "--negatives-kept: expected more than 0 and at most 1"),
    ):
        if not is_valid:
            raise ModelsError(message)
    with quiet_interrupts():
        from models.simulator.market import Traffic
        from models.simulator.simulation import write_log

    traffic = Traffic(rows, days, seed, num_users, num_ads, base_rate)
    total, last = write_log(traffic, out, file_format, negatives_kept)
    files, schema = f"{out}/impressions-*.{file_format}", f"{out}/schema.toml"
    if as_json:
        bayes = {"all_days": total._asdict(), "last_day": last._asdict()}
        print(json.dumps({"data": files, "schema": schema, "users": num_users, "bayes": bayes}, indent=2))
        return
    lines = [
        f"{total.rows:,} impressions, {total.clicks:,} clicks, {num_users:,} users, about {num_ads:,} ads at a time",
        "Bayes-optimal, over all traffic (no model can expect better):",
        *(
            f"  {name}  log loss {s.log_loss:.5f}  AUC {'–' if s.auc is None else f'{s.auc:.4f}'}"
            for name, s in (("all days", total), ("last day", last))
        ),
        f"log: {files}, its schema: {schema}",
        f"true probabilities, row by row: {out}/truth-*.{file_format}",
        "next:",
        f"  ctrserve train --data '{files}' --schema {schema} --out artifacts",
    ]
    print("\n".join(lines))
