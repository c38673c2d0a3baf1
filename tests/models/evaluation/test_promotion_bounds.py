import numpy as np
import pytest

from models.errors import ModelsError
from models.evaluation.bootstrap import bootstrap
from models.evaluation.metrics import evaluate
from models.evaluation.promotion_bounds import failures, parse_requirements
from models.network.calibration import sigmoid


def make_scores(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = sigmoid(rng.normal(-1, 1, n))
    return (rng.random(n) < p).astype(np.float32), p


def test_failures_lists_exactly_the_missed_bounds() -> None:
    metrics = evaluate(*make_scores(2_000))
    assert failures(parse_requirements("auc>=0.6, calibration<=1.2,calibration>=0.8"), metrics) == ()
    missed = failures(parse_requirements("auc>=0.99,log_loss<=0.9,ece<=1e-9"), metrics)
    assert [m.split()[0] for m in missed] == ["auc", "ece"]


def test_an_undefined_metric_misses_its_bound() -> None:
    metrics = evaluate(*make_scores(100))
    assert failures(parse_requirements("gauc>=0.1"), metrics) == ("gauc is unknown, required at least 0.1",)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ",", "auc>=0.7,", "auc>=0.7,,gauc>=0.6"),
        *("auc", "auc>0.7", "auc>=", "auc>=1.2.3", "rows>=5", "AUC>=0.7", "__class__<=1", "auc==0.7", "0.7<=auc"),
        *("auc>=nan", "log_loss<=inf", "log_loss<=1e999", "auc>=0.8,auc<=0.7"),
        *("calibration<=1.03", "calibration>=0.97", "calibration within", "calibration within 3", "auc within 3%"),
        *("calibration within 0%", "calibration within -3%", "calibration within 100%", "calibration within nan%"),
    ],
)
def test_empty_unknown_and_one_sided_bounds_are_refused(text: str) -> None:
    with pytest.raises(ModelsError, match="--require"):
        parse_requirements(text)


@pytest.mark.parametrize("text", ["calibration within 3%", "calibration>=0.97,calibration<=1.03"])
@pytest.mark.parametrize(("ratio", "is_met"), [(0.96, False), (0.971, True), (1.0, True), (1.029, True), (1.04, False)])
def test_calibration_is_judged_on_both_sides(text: str, ratio: float, *, is_met: bool) -> None:
    metrics = evaluate(*make_scores(100)).model_copy(update={"calibration": ratio})
    assert (failures(parse_requirements(text), metrics) == ()) == is_met


@pytest.mark.parametrize("ratio", [float("inf"), float("nan")])
def test_a_ratio_that_is_not_finite_misses_its_bound(ratio: float) -> None:
    metrics = evaluate(*make_scores(100)).model_copy(update={"calibration": ratio})
    assert len(failures(parse_requirements("calibration within 3 %"), metrics)) == 1


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    _, p = make_scores(400)
    expected = float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean())
    covered = 0
    for seed in range(40):
        labels = (np.random.default_rng(seed + 1).random(400) < p).astype(np.float32)
        low, high = bootstrap(labels, p, seed=seed)["log_loss"]
        covered += low <= expected <= high
    assert covered >= 34


def test_resampling_correlated_groups_gives_wider_intervals() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 20)
    p = sigmoid(rng.normal(0, 1, 100))[groups]
    labels = (rng.random(100) < 0.3)[groups].astype(np.float32)
    single, grouped = bootstrap(labels, p)["calibration"], bootstrap(labels, p, groups)["calibration"]
    assert grouped[1] - grouped[0] > 2 * (single[1] - single[0])


def test_smaller_resamples_of_many_rows_give_the_interval_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, p = make_scores(8_000)
    whole = bootstrap(labels, p)["log_loss"]
    monkeypatch.setattr("models.evaluation.bootstrap.MAX_ROWS", 1_000)
    part = bootstrap(labels, p)["log_loss"]
    assert part[1] - part[0] == pytest.approx(whole[1] - whole[0], rel=0.3)
    assert bootstrap(labels, p) == bootstrap(labels, p)
