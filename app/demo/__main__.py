"""``make demo``: simulate a log, train, start Redis and the service, ask for predictions, show where to look next.

Everything it makes stays below ``demo/``. On a terminal the service then runs until Ctrl-C.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import orjson

from app.demo.embedded_redis import open_embedded_redis
from models.artifact.current import read_current

DIRECTORY = Path("demo")
NUM_ROWS = 200_000
START_DEADLINE_S = 60.0
# No hot head, so that Redis has something to do: a table of this size would fit it whole.
HOT_BYTES = 0
PYTHON = (sys.executable, "-P", "-m")
"""Runs an installed module, not one of the same name in the working directory."""


def main() -> int:
    """Run the demo; return 0 when every step worked."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    logs, artifacts = DIRECTORY / "logs", DIRECTORY / "artifacts"
    _step("simulate an ad log with known click probabilities")
    _run("models.simulator", "--rows", str(NUM_ROWS), "--out", str(logs))
    _step("train a DeepFM on it")
    _run(
        "models.train",
        "--data",
        str(logs / "impressions-*"),
        "--schema",
        str(logs / "schema.toml"),
        "--out",
        str(artifacts),
    )
    with ExitStack() as stack:
        redis_url = os.environ.get("CTR_REDIS_URL")
        if redis_url is None:
            _step("start the packaged Valkey")
            redis_url = stack.enter_context(open_embedded_redis(DIRECTORY)).url
        _step("serve")
        url = stack.enter_context(_serving(artifacts, redis_url))
        _ask(url)
        version = read_current(artifacts).version
        print(
            f"\nreport   {(artifacts / version / 'report.html').resolve()}\ndocs     {url}/docs\nmetrics  {url}/metrics"
        )
        if sys.stdin.isatty():
            print("\nthe service runs until Ctrl-C")
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                print()
    return 0


def _ask(url: str) -> None:
    schema = httpx.get(f"{url}/openapi.json").json()
    example = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    newcomer = {**example["instances"][0], "user_id": "nobody yet", "colour": "red"}
    for title, request in (
        ("an example row", example),
        ("a user never seen, and a field the model does not have", {"instances": [newcomer]}),
    ):
        _step(f"ask: {title}")
        print(f"POST {url}/predict\n{orjson.dumps(request).decode()}")
        answer = httpx.post(f"{url}/predict", json=request)
        print(f"{answer.status_code} {answer.text}")
        answer.raise_for_status()
    _step("embedding rows by the tier that answered: hot head, Redis, table")
    exposition = httpx.get(f"{url}/metrics").text.splitlines()
    print("\n".join(line for line in exposition if line.startswith("ctr_embedding_rows_total")))


@contextmanager
def _serving(artifacts: Path, redis_url: str) -> Iterator[str]:
    log = DIRECTORY / "service.log"
    environment = {
        **os.environ,
        "CTR_ARTIFACTS": str(artifacts),
        "CTR_REDIS_URL": redis_url,
        "CTR_HOT_BYTES": os.environ.get("CTR_HOT_BYTES", str(HOT_BYTES)),
    }
    url = f"http://127.0.0.1:{os.environ.get('CTR_PORT', '8000')}"
    with log.open("wb") as output:
        service = subprocess.Popen([*PYTHON, "app"], env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_DEADLINE_S
        while not _is_ready(url):
            if service.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield url
    finally:
        service.terminate()
        service.wait(30)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _run(module: str, *arguments: str) -> None:
    try:
        subprocess.run([*PYTHON, module, *arguments], check=True)
    except subprocess.CalledProcessError as error:  # it has said why
        raise SystemExit(error.returncode) from None


def _step(title: str) -> None:
    print(f"\n── {title}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
