"""Dashboard and alerts ask for metrics that the service has; promtool checks and tests the rules where it is installed."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.observability.metrics import Telemetry

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "ctrserve.json").read_text(encoding="utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = ALERTS["groups"][0]["rules"]
RUNBOOKS = (DEPLOY.parent / "docs" / "operations.md").read_text(encoding="utf-8").split("\n## Runbooks\n")[1]


def series() -> set[str]:
    """Return the names of the time series that the service exports."""
    found = {"up"}
    for metric in Telemetry().registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(metric.type, ("",))
        found |= {metric.name + suffix for suffix in suffixes}
    return found


def asked(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:ctr|process)_\w+|\bup\b", re.sub(r"\([\w, ]*\)|\{[^}]*\}", "", expression)))


def test_the_dashboard_shows_what_the_service_exports() -> None:
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    names = set().union(*map(asked, expressions))
    assert names <= series()
    shown = {name for name in series() if name.startswith("ctr_") and not name.endswith(("_sum", "_count", "_bucket"))}
    assert shown <= names, "every counter and gauge is on the dashboard"
    assert all('job=~"$job"' in expression for expression in expressions)


def test_the_dashboards_panels_are_distinct_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_alerts_ask_for_metrics_of_the_service_and_name_runbooks_that_exist() -> None:
    for rule in RULES:
        names = asked(rule["expr"])
        assert names, rule["alert"]
        assert names <= series(), rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        for title in re.findall(r"[Ss]ee '([^']+)'", rule["annotations"].get("description", "")):
            plain = RUNBOOKS.replace("`", "")
            assert re.search(rf"^### {re.escape(title)}", plain, re.MULTILINE), title


@pytest.mark.parametrize("command", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]])
def test_promtool_accepts_the_rules(command: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: it is in Debian's package prometheus")
    ran = subprocess.run(
        [promtool, *command], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_but_those_of_time_has_a_test() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    tested = {case["alertname"] for test in tests for case in test["alert_rule_test"]}
    assert {rule["alert"] for rule in RULES} - tested == {"CtrserveValuesUnseen"}, "needs a day of series"
