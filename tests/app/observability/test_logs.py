"""What the service tells of itself: log lines, traces, stages, scores."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.observability.logs import LINES_PER_S, RequestLog
from app.observability.metrics import SCORE_BOUNDS, STAGES, Telemetry
from app.scoring.score_drift import MAX_PENDING, MIN_ROWS, WINDOW_ROWS, ScoreMonitor
from models.artifact.current import set_current
from models.pipeline.assessment import score_reference
from tests.clients import open_with
from tests.making import make_artifact, make_log
from tests.server import Server, serving

ROW = {"user_id": 7, "ad_id": "ad3", "price": 1.5}
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def server(artifacts: Path) -> Iterator[Server]:
    with serving(artifacts) as running:
        yield running


def test_lines_are_json_with_the_request_id_and_nothing_that_was_sent(server: Server) -> None:
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    for n, text in enumerate(('s3cr3t\r\n{"event": "forged"}', "\x1b[31ms3cr3t", "s3cr3t\u2028\u0085", "%s%ns3cr3t")):
        bad = {"instances": [{"user_id": text, "s3cr3t": text, "price": text}]}
        answer = server.client.post("/predict", json=bad, headers={} if n else headers)
        assert n or answer.json()["request_id"] == TRACE
        server.client.get("/" + "".join(f"%{b:02x}" for b in text.encode()))
    server.wait_for(lambda: server.log.read_text().count("not answered") == 8)
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    (about,) = [line for line in lines if line.get("request_id") == TRACE]
    assert {"path": "/predict", "status": 422, "code": "invalid_input", "level": "info"}.items() <= about.items()
    assert "s3cr3t" not in server.log.read_text()
    assert {"serving v1"} <= {line["event"] for line in lines}


MANY_LINES = """
import logging, sys
from app.observability.logs import configure_logging
configure_logging()
log = logging.getLogger("test")
for n in range(3_000):
    log.info("%d " + "." * 200, n)
print("written", flush=True)
sys.stdin.read(1)
log.info("after")
log.info("last")
"""


def test_lines_that_found_no_room_are_counted_in_the_next_one() -> None:
    command = [sys.executable, "-c", MANY_LINES]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"written\n"  # nobody has read: the pipe was full, then the queue
        held = b""
        while held.count(b"\n") < 1_000:  # what waited in the process has gone out
            held += os.read(process.stderr.fileno(), 1 << 20)
        process.stdin.write(b"x")
        process.stdin.close()
        held += process.stderr.read()
    lines = [json.loads(line) for line in held.splitlines()]
    num_dropped = max(
        line.get("dropped", 0) for line in lines
    )  # by the last line that says it, mostly that after the pause
    assert 0 < num_dropped < 3_000
    assert len(lines) == 3_002 - num_dropped
    assert [line["event"] for line in lines[-2:]] == ["after", "last"]
    assert "dropped" not in lines[-1]


def test_every_answer_carries_its_trace(server: Server) -> None:
    given = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    for answer in (
        server.client.post("/predict", json={"instances": [ROW]}, headers=given),
        server.client.get("/model", headers=given),
        server.client.get("/nothing", headers=given),
    ):
        version, trace, span, flags = answer.headers["traceparent"].split("-")
        assert (version, trace, flags) == ("00", TRACE, "01")
        assert span != "b7ad6b7169203331"
    for junk in ("junk", f"00-{'0' * 32}-b7ad6b7169203331-01", f"01-{TRACE}-b7ad6b7169203331"):
        answer = server.client.get("/health/live", headers={"traceparent": junk})
        assert answer.headers["traceparent"].split("-")[1] not in (TRACE, "0" * 32)


def test_a_flood_of_refusals_is_ten_lines_a_second_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = RequestLog(lambda: now)
    with caplog.at_level(logging.INFO):
        for _ in range(1_000):
            log.note("/predict", 422, "invalid_input", TRACE, None, 0.001)
        now = 1.0
        log.note("/predict", 503, "overloaded", TRACE, "bidder", 0.001)
    assert len(caplog.records) == LINES_PER_S + 1
    last = caplog.records[-1]
    assert (last.__dict__["left_out"], last.__dict__["key"], last.levelname) == (
        1_000 - LINES_PER_S,
        "bidder",
        "WARNING",
    )


def test_a_flood_of_requests_that_are_none_is_ten_lines_a_second_and_a_count(server: Server) -> None:
    num_sent = 2_000

    def said() -> list[dict[str, object]]:
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if "Invalid HTTP" in line]
        return [line for line in lines if line["logger"] == "uvicorn.error"]

    started = time.monotonic()
    for _ in range(num_sent - 1):
        with open_with(server, b"\x00\x01 nothing\r\n\r\n") as connection:
            assert connection.recv(64).startswith(b"HTTP/1.1 400")
    seconds = time.monotonic() - started
    time.sleep(1.0)  # the next second's first line counts what was left out of the last
    with open_with(server, b"\x00\r\n\r\n") as connection:
        connection.recv(64)
    server.wait_for(lambda: sum(1 + int(str(line.get("left_out", 0))) for line in said()) == num_sent)
    assert len(said()) <= LINES_PER_S * (seconds + 2) + 1


def test_every_sixteenth_request_is_timed_by_stage(artifacts: Path) -> None:
    with serving(artifacts) as server:
        for _ in range(32):
            assert server.client.post("/predict", json={"instances": [ROW]}).status_code == 200
        for stage in STAGES:
            assert server.metric("ctr_stage_seconds_count", stage=stage) == 2
        server.wait_for(lambda: sum_of_scores(server.client.get("/metrics").text) == 32)


def sum_of_scores(exposition: str) -> float:
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in exposition.splitlines() if line.startswith("ctr_scores_total{")
    )


def test_probabilities_are_all_counted_however_many_come_together() -> None:
    telemetry, rng = Telemetry(), np.random.default_rng(5)
    monitor = ScoreMonitor(None, telemetry)
    given = [rng.random(n) for n in (1, MAX_PENDING - 1, 1, MAX_PENDING, MAX_PENDING + 1, 3 * MAX_PENDING, 7)]
    for probabilities in given:
        monitor.note(probabilities)
    monitor.count()
    bounds = (0, *SCORE_BOUNDS, 1)
    expected = np.histogram(np.concatenate(given), bounds)[0]
    found = [telemetry.registry.get_sample_value("ctr_scores_total", {"up_to": str(bound)}) for bound in bounds[1:]]
    assert found == expected.tolist()


def test_the_same_population_has_no_drift_and_another_one_has() -> None:
    rng = np.random.default_rng(3)
    held_out = rng.beta(2, 20, 50_000)
    telemetry = Telemetry()
    monitor = ScoreMonitor(score_reference(held_out, 1.0), telemetry)

    def psi() -> float:
        found = telemetry.registry.get_sample_value("ctr_score_psi")
        assert found is not None
        return found

    monitor.note(rng.beta(2, 20, MIN_ROWS - 1))
    monitor.count()
    assert psi() == 0
    for _ in range(200):
        monitor.note(rng.beta(2, 20, 100))
    monitor.count()
    assert 0 < psi() < 0.01
    for _ in range(3):  # the window forgets
        monitor.note(rng.beta(4, 20, WINDOW_ROWS // 2))
        monitor.count()
    found = np.quantile(held_out, np.linspace(0, 1, 11)[1:-1])
    shares = np.bincount(found.searchsorted(rng.beta(4, 20, 200_000)), minlength=10) / 200_000
    assert psi() == pytest.approx(((shares - 0.1) * np.log(shares / 0.1)).sum(), rel=0.1)


def test_a_service_tells_drift_and_begins_anew_with_the_next_model(tmp_path: Path) -> None:
    frame = make_log()
    users, ads = [int(user) for user in frame["user_id"]], frame["ad_id"].to_list()
    for version, seed in (("v1", 0), ("v2", 1)):
        make_artifact(tmp_path, version, seed, current=version == "v1")
    with serving(tmp_path) as server:

        def ask(columns: dict[str, list[object]]) -> list[float]:
            found: list[float] = server.client.post("/predict", json={"inputs": columns}).json()["predictions"]
            return found

        columns: dict[str, list[object]] = {"user_id": [*users], "ad_id": [*ads]}
        reference = score_reference(np.array(ask(columns)), 1.0)
        manifest = json.loads((tmp_path / "v2" / "manifest.json").read_text())
        (tmp_path / "v2" / "manifest.json").write_text(json.dumps(manifest | {"scores": reference.model_dump()}))
        assert server.metric("ctr_score_psi") == 0  # v1 has no reference
        set_current(tmp_path, "v2")
        server.wait_for(lambda: server.client.get("/model").json()["model_version"] == "v2")
        for _ in range(8):
            ask({"user_id": [users[0]] * 2_000, "ad_id": [ads[0]] * 2_000})
        server.wait_for(lambda: server.metric("ctr_score_psi") > 1)
        set_current(tmp_path, "v1")
        server.wait_for(lambda: server.client.get("/model").json()["model_version"] == "v1")
        ask({"user_id": [users[0]]})
        server.wait_for(lambda: server.metric("ctr_score_psi") == 0)


def test_the_reference_is_of_what_is_served_where_negatives_were_dropped() -> None:
    p = np.linspace(0.01, 0.99, 99)
    reference = score_reference(p, 0.1)
    served = p * 0.1 / (p * 0.1 + 1 - p)
    assert reference.edges == pytest.approx(np.quantile(served, np.linspace(0.1, 0.9, 9)))
    assert sum(reference.shares) == pytest.approx(1)


def test_equal_probabilities_fall_into_one_bucket() -> None:
    reference = score_reference(np.full(100, 0.2), 1.0)
    assert (reference.edges, reference.shares) == ((0.2,), (0.0, 1.0))
