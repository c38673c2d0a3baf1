"""Nothing in an artifact or a request is ever run: seen from outside by an audit hook, and from the sources."""

import ast
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.corpus import GOOD
from tests.making import make_artifact
from tests.models.artifact.editing import sign

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for package in ("app", "models") for p in (ROOT / package).rglob("*.py"))
MODULES = {
    "pickle", "_pickle", "cPickle", "marshal", "shelve", "dbm", "joblib", "dill", "cloudpickle", "yaml", "jsonpickle", "code", "codeop",
    "runpy", "ctypes", "cffi", "xmlrpc", "telnetlib", "ftplib", "smtplib", "requests", "urllib.request", "http.client",
}  # fmt: skip
CALLS = {
    "eval", "exec", "compile", "__import__", "input", "breakpoint", "torch.load", "torch.save", "torch.jit.load", "torch.hub.load",
    "os.system", "os.popen", "numpy.load", "np.load", "pl.read_ipc", "importlib.import_module", "DataFrame.deserialize",
}  # fmt: skip
# The embedded Redis is a binary that comes with a package; the demo starts the service in a process of its own.
STARTS_PROCESSES = {"app/demo/embedded_redis.py", "app/demo/__main__.py"}


WEIGHTS = "embeddings.safetensors"


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_loading_scoring_and_swapping_run_no_code_and_write_nothing_but_the_catalog(tmp_path: Path) -> None:
    for seed, version in enumerate(("v1", "v2", "planted")):
        make_artifact(tmp_path, version, seed, current=version == "v1")
    (tmp_path / "planted" / WEIGHTS).write_bytes(pickle.dumps(Planted(tmp_path / "was-run")))
    sign(tmp_path / "planted", WEIGHTS)
    command = [sys.executable, "-m", "tests.hostile.watched_service", str(tmp_path), "v1", "v2", "planted", "v1"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen["statuses"] == [200] * 4 * len(GOOD)
    assert seen["versions"] == ["v1", "v2", "v2", "v1"]
    assert seen["refusals"][:3] == ["", "", "shape"]
    assert seen["watched"] == []
    assert not (tmp_path / "was-run").exists()
    names = {Path(path).name.rsplit("-", 1)[0] for path in seen["written"]}
    assert names == {".catalog.json", ".tmp"}  # the second is this test's own: it names the version to serve


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_can_run_code_from_data_or_reach_out(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call):
            assert called(node) not in CALLS, f"{path}:{node.lineno}"
            assert not any(keyword.arg == "shell" for keyword in node.keywords), f"{path}:{node.lineno}"
            assert not any(
                keyword.arg in ("allow_pickle", "weights_only") and getattr(keyword.value, "value", None) is not False
                for keyword in node.keywords
            )
    assert not imported & MODULES
    assert not {name.split(".")[0] for name in imported} & MODULES
    if str(path.relative_to(ROOT)) not in STARTS_PROCESSES:
        assert "subprocess" not in imported
