"""The pure parts of the benchmarks. No test asserts a speed."""

import json
import os
import shutil
import socketserver
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import open_loop
from benchmarks.accuracy.comparison import calibrated, compare, difference_table
from benchmarks.accuracy.export import export
from benchmarks.accuracy.inputs import BestEpoch, Examples, Inputs, Predictions, load_inputs, save_inputs
from benchmarks.conditions import conditions, read, save
from benchmarks.defaults import described, simulate
from benchmarks.defaults import markdown as defaults_table
from benchmarks.few_clicks import expected_log_loss
from benchmarks.model import Shape, make_counts, make_encoder, token
from benchmarks.open_loop import due_times, summarise
from benchmarks.page import render
from benchmarks.workload import Traffic, columns_of_rows, row_bodies
from models.evaluation.metrics import log_loss
from models.schema.feature_schema import FeatureSchema

SMALL = Shape(num_categorical=3, num_numeric=2, tokens_per_field=50, embedding_dim=4, hidden=(8,), trained_rows=2_000)


def test_arrivals_have_the_offered_rate_and_are_seeded() -> None:
    fixed, random = due_times(100, 10, "fixed", 0), due_times(100, 10, "poisson", 1)
    assert len(fixed) == len(random) == 1_000
    assert np.diff(fixed).max() == pytest.approx(0.01)
    assert random[-1] == pytest.approx(10, rel=0.2)
    assert (random == due_times(100, 10, "poisson", 1)).all()


def test_latency_counts_from_the_due_time_so_a_stall_counts_for_all_requests_behind_it() -> None:
    due = np.array([0.0, 0.010, 0.020, 0.030])
    # The server stalls for 100 ms with one connection: the others are sent, and answered within a millisecond, after it.
    sent = np.array([0.0, 0.100, 0.101, 0.102])
    done = np.array([0.100, 0.101, 0.102, 0.103])
    found = summarise(due, sent, done, np.full(4, 200))
    assert found["from_due"]["max_ms"] == pytest.approx(100)
    assert found["from_due"]["p50_ms"] == pytest.approx((91 + 82) / 2)
    assert found["from_sent"]["p50_ms"] == pytest.approx(1)
    assert found["pauses"] == {"longer_than_ms": 20.0, "count": 1, "longest_ms": 100.0}
    assert found["errors"] == 0


def test_a_time_without_requests_is_not_a_pause() -> None:
    due = np.array([0.0, 1.0, 2.0])
    found = summarise(due, due, due + 0.001, np.full(3, 200))
    assert found["pauses"]["count"] == 0
    assert found["pauses"]["longest_ms"] == pytest.approx(1)


def test_errors_are_counted_by_kind_and_excluded_from_the_latencies() -> None:
    due = np.array([0.0, 0.1, 0.2, 0.3])
    done = np.array([0.001, 0.101, 0.201, np.nan])
    found = summarise(due, due, done, np.array([200, 503, 0, 0]))
    assert found["errors"] == 3
    assert found["errors_by_kind"] == {"503": 1, "hung up": 1, "no answer": 1}
    assert found["from_due"]["max_ms"] == pytest.approx(1)


def test_a_run_without_any_answer_is_reported() -> None:
    nothing = np.array([np.nan, np.nan])
    found = summarise(np.array([0.0, 0.1]), nothing, nothing, np.array([0, 0]))
    assert found["errors"] == 2
    assert found["achieved_rps"] == 0


class Answers(socketserver.BaseRequestHandler):
    """Answers a request as its body says."""

    def handle(self) -> None:
        while (received := self.request.recv(1 << 16)).startswith(b"POST /predict HTTP/1.1\r\n"):
            head, _, body = received.partition(b"\r\n\r\n")
            assert head.endswith(b"\r\nContent-Length: %d" % len(body))
            if body == b"hang up":
                return
            if body == b"pieces":
                for piece in (b"HTTP/1.1 200 OK\r\nconte", b"nt-length: 4\r\n\r", b"\nab", b"cd"):
                    self.request.sendall(piece)
                    time.sleep(0.02)
            elif body == b"chunked":
                self.request.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
            elif body == b"503":
                self.request.sendall(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.skipif(not os.environ.get("CI") and shutil.which("cc") is None, reason="no C compiler")
def test_the_open_loop_distinguishes_answers_and_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "DRAIN_S", 0.5)
    kinds = [b"pieces", b"chunked", b"503", b"hang up", b"never"]
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = open_loop.run(
            server.server_address[1],
            "/predict",
            kinds,
            rate=200,
            seconds=0.05,
            connections=6,
            arrivals="fixed",
            seed=0,
        )
        server.shutdown()
    assert found["requests"] == 10
    assert found["errors_by_kind"] == {"503": 2, "hung up": 2, "no answer": 2}
    assert found["from_due"]["max_ms"] >= 60
    assert 0 < found["from_due"]["p50_ms"] < 500


def test_traffic_is_seeded_and_zipf_distributed_with_some_unseen_values() -> None:
    rows = Traffic(3, SMALL).rows(4_000)
    assert rows == Traffic(3, SMALL).rows(4_000)
    tokens = columns_of_rows(rows)["C0"]
    assert 0.002 < tokens.count("never seen") / len(tokens) < 0.03
    assert tokens.count(token(0)) > 1.5 * tokens.count(token(1)) > tokens.count(token(10))
    assert len(json.loads(row_bodies(5, 2, shape=SMALL)[1])["instances"]) == 5


def test_the_model_has_its_tokens_with_counts_by_frequency() -> None:
    encoder = make_encoder(SMALL)
    assert encoder.num_rows == SMALL.num_ids
    first = encoder.fields[0]
    assert first.find_all([token(0), token(49), "never seen"]).tolist() == [2, 51, 1]
    counts = make_counts(SMALL, encoder)[2:52]
    assert (np.diff(counts) <= 0).all()
    assert counts[-1] > 0


def test_a_result_has_its_conditions_and_another_schema_version_is_not_read(tmp_path: Path) -> None:
    path = save("x", conditions(), tmp_path)
    found = read("x", tmp_path)
    assert found is not None
    assert {"commit", "dirty", "date", "seed", "threads", "machine", "versions", "command"} <= found.keys()
    assert {"cpu", "cores", "flags"} <= found["machine"].keys()
    path.write_text(json.dumps({**found, "schema_version": 0}))
    assert read("x", tmp_path) is None
    assert read("y", tmp_path) is None


def test_a_page_without_results_is_only_its_introduction(tmp_path: Path) -> None:
    page = render(tmp_path / "docs", tmp_path / "none")
    assert page.read_text(encoding="utf-8").startswith("# Performance")


def test_a_system_is_compared_by_the_mean_over_its_seeds_on_the_same_resamples() -> None:
    rng = np.random.default_rng(1)
    truth, groups = rng.random(2_000), rng.integers(0, 400, 2_000)
    labels = (rng.random(2_000) < truth).astype(np.float32)
    seeds = [np.clip(truth + rng.normal(0, 0.1, 2_000), 0.01, 0.99) for _ in range(2)]
    found = compare(labels, {"ctrserve": seeds, "fuxictr": seeds[::-1], "logistic": [truth * 0.5]}, groups)
    losses = [log_loss(labels, p) for p in seeds]
    assert found["ctrserve"]["log_loss"]["seeds"] == pytest.approx(losses)
    assert found["fuxictr"]["log_loss"]["mean"] == pytest.approx(np.mean(losses))
    assert found["fuxictr"]["log_loss"]["minus_ctrserve_interval"] == pytest.approx((0, 0), abs=1e-12)
    low, high = found["logistic"]["log_loss"]["minus_ctrserve_interval"]
    assert 0 < low < found["logistic"]["log_loss"]["minus_ctrserve"] < high
    shown = difference_table(found).splitlines()
    assert "**" not in shown[2]
    assert "| **+" in shown[3]


def test_probabilities_of_a_peer_are_calibrated_on_its_validation_part() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(8_000)
    labels = (rng.random(8_000) < truth).astype(np.float32)
    predicted = truth**2
    fixed = calibrated(labels[:4_000], predicted[:4_000], predicted[4_000:])
    assert abs(fixed.sum() / labels[4_000:].sum() - 1) < 0.05 < abs(predicted[4_000:].sum() / labels[4_000:].sum() - 1)


def test_peers_get_the_rows_and_columns_of_ctrserve(tmp_path: Path) -> None:
    n = 60
    (tmp_path / "log.csv").write_text(
        "click,day,user,item,seen,price\n"
        + "".join(
            f"{i % 2},{i // 20},u{i % 3},i{i % 4},{'|'.join(f'i{j}' for j in range(i % 4))},{i}\n" for i in range(n)
        )
    )
    schema = FeatureSchema.model_validate(
        {
            "label": "click",
            "group": "user",
            "split": {"column": "day", "validation_from": 1, "test_from": 2},
            "field": [
                {"name": "user", "kind": "categorical"},
                {"name": "price", "kind": "numeric", "bins": 2},
                {"name": "seen", "kind": "sequence", "vocabulary": "item", "max_length": 2},
                {"name": "item", "kind": "categorical", "side": "candidate"},
            ],
        }
    )
    exported = export([str(tmp_path / "log.csv")], schema, tmp_path / "shards")
    save_inputs(tmp_path, exported.inputs)
    inputs = load_inputs(tmp_path)
    assert list(inputs.columns) == ["user", "item", "price"]
    assert dict(inputs.shares) == {"seen": "item"}
    test = inputs.parts["test"]
    assert test.labels.tolist() == [float(i % 2) for i in range(40, n)]
    assert test.numbers[:, 0].tolist() == list(range(40, n))
    assert (test.tokens[:, 2] == 4).all()  # a later price than any of training: the last bin
    own = {i % 4: test.tokens[i - 40, 1] for i in range(40, n)}  # id of each item
    assert sorted(own.values()) == [3, 4, 5, 6]
    expected = {0: [1, 0], 1: [own[0], 0], 2: [own[0], own[1]], 3: [own[1], own[2]]}
    assert [row.tolist() for row in test.sequences["seen"]] == [expected[i % 4] for i in range(40, n)]
    assert exported.groups is not None
    assert len(exported.groups) == 20
    assert inputs.scaled("train").mean() == pytest.approx(0, abs=1e-6)


def test_the_best_epoch_is_kept_or_the_last_of_a_given_number() -> None:
    labels = np.array([1.0, 0.0])
    quality = [0.6, 0.8, 0.7, 0.65, 0.9]  # the probability that each epoch gives to what happened

    def epochs_of(best: BestEpoch) -> Predictions:
        for n, p in enumerate(quality, 1):
            if best.is_over(lambda part, p=p, n=n: np.array([p, 1 - p]) if part == "validation" else np.array([n])):  # type: ignore[misc]
                break
        assert best.predictions is not None
        return best.predictions

    found = epochs_of(BestEpoch(labels, None))
    assert (found.epochs, found.test.tolist(), found.validation[0]) == (2, [2], 0.8)
    assert epochs_of(BestEpoch(labels, 3)).test.tolist() == [3]


def test_validation_rows_are_appended_to_the_training_rows() -> None:
    def part(n: int, first: int) -> Examples:
        rows = np.arange(first, first + n)
        return Examples(
            rows.astype(np.float32),
            rows[:, np.newaxis].astype(np.int32),
            rows[:, np.newaxis].astype(np.float32),
            {"seen": np.stack([rows, rows], axis=1).astype(np.int32)},
        )

    inputs = Inputs(
        {"train": part(3, 0), "validation": part(2, 3), "test": part(1, 9)}, ["a"], [9], ["b"], {"seen": "a"}
    )
    both = inputs.with_validation().parts
    assert both["train"].labels.tolist() == [0, 1, 2, 3, 4]
    assert both["train"].tokens.tolist() == both["train"].numbers.tolist() == [[0], [1], [2], [3], [4]]
    assert both["train"].sequences["seen"].shape == (5, 2)
    assert len(both["validation"].labels) == 2


def test_the_defaults_are_compared_with_the_better_of_the_others() -> None:
    losses = [{"ctrserve": 0.30, "logistic regression": 0.29, "LightGBM": 0.31, "the truth": 0.25}] * 2
    found = {"case": "9:1:0", **described(losses)}
    assert (found["better"], found["minus_the_better"], found["error"]) == ("logistic regression", 0.01, 0.0)
    assert defaults_table([found]).endswith("| +0.01000 ± 0.00000 | above |")
    assert defaults_table([{**found, "minus_the_better": 0.0005}]).endswith("| within |")


def test_noise_columns_are_added_to_a_simulated_log(tmp_path: Path) -> None:
    log = simulate(tmp_path, rows=1_000, rate=0.1, noise=3, seed=1)
    frame = pl.read_parquet(log.data[0])
    assert log.truth is not None
    assert len(log.truth) == frame.height == 1_000
    assert [f.kind for f in log.schema.fields[-3:]] == ["numeric", "categorical", "numeric"]
    assert {f.name for f in log.schema.fields} <= set(frame.columns)


def test_the_expected_log_loss_is_least_for_the_truth() -> None:
    truth = np.array([0.1, 0.4, 0.0])
    assert expected_log_loss(truth, truth) < expected_log_loss(truth, np.array([0.2, 0.4, 0.1]))
    assert expected_log_loss(truth, np.array([0.0, 1.0, 0.0])) < 16
