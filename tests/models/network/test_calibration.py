from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from models.network.calibration import (
    MIN_PROBABILITY,
    Calibration,
    fit_calibration,
    fit_isotonic,
    fit_platt,
    level_shift,
    sigmoid,
)


def make_clicks(
    seed: int, n: int, slope: float = 0.6, intercept: float = -1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n) * 2
    p = sigmoid(slope * z + intercept)
    return z, (rng.random(n) < p).astype(np.float64), p


def test_platt_without_priors_equals_an_unpenalised_logistic_regression() -> None:
    z, y, _ = make_clicks(1, 5_000)
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(z[:, None], y)
    fitted = fit_platt(z, y, slope_sd=1e6, level_sd=1e6)
    assert fitted.slope == pytest.approx(oracle.coef_[0, 0], abs=1e-5)
    assert fitted.intercept == pytest.approx(oracle.intercept_[0], abs=1e-5)


def test_with_many_clicks_the_priors_do_not_matter() -> None:
    z, y, _ = make_clicks(1, 200_000)
    free, fitted = fit_platt(z, y, slope_sd=1e6, level_sd=1e6), fit_platt(z, y)
    assert fitted.slope == pytest.approx(free.slope, abs=2e-3)
    assert fitted.intercept == pytest.approx(free.intercept, abs=5e-3)


def test_without_clicks_the_logits_are_hardly_changed() -> None:
    z = np.random.default_rng(3).normal(-6, 1, 300)  # which promise about one click
    fitted = fit_platt(z, np.zeros(300))
    assert fitted.slope == pytest.approx(1, abs=0.1)
    assert fitted.of_log(z).sum() == pytest.approx(sigmoid(z).sum(), rel=0.05)


@pytest.mark.parametrize("clicks", [15, 50, 200])
def test_few_clicks_do_not_make_good_logits_worse(clicks: int) -> None:
    """What the priors are for: by the true probabilities, the map of few clicks costs less than Platt's without priors."""
    rng = np.random.default_rng(clicks)
    costs = {"free": 0.0, "fitted": 0.0}  # expected log loss above that of the true probabilities, per click
    for _ in range(8):
        truth_logits = rng.normal(-5, 1, 50 * clicks)
        p = sigmoid(truth_logits)
        z, y = truth_logits + 0.1, (rng.random(len(p)) < p).astype(np.float64)
        for name, fitted in (("free", fit_platt(z, y, slope_sd=1e6, level_sd=1e6)), ("fitted", fit_calibration(z, y))):
            q = fitted.of_log(z)
            costs[name] += float((p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum()) / (8 * clicks)
    assert costs["fitted"] < costs["free"]
    assert costs["fitted"] < 0.02


def test_isotonic_follows_pool_adjacent_violators() -> None:
    z, y, _ = make_clicks(2, 900)
    fitted = fit_isotonic(z, y)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(z, y)
    assert np.abs(fitted.of_log(z) - oracle.predict(z)).mean() < 0.02
    assert fitted.of_log(z).mean() == pytest.approx(y.mean(), abs=0.01)


def test_isotonic_never_turns_two_logits_around() -> None:
    z, y, _ = make_clicks(3, 2_000)
    p = fit_isotonic(z, y).of_log(np.linspace(-20, 20, 5_000))
    assert (np.diff(p) >= 0).all()


def test_the_choice_recovers_true_probabilities_from_a_skewed_score() -> None:
    z, y, p = make_clicks(4, 40_000)
    assert np.abs(fit_calibration(z, y).of_log(z) - p).mean() < 0.01
    bent = np.where(z > 0, 3 * z, z / 3)  # no straight line undoes this
    chosen = fit_calibration(bent, y)
    assert chosen.method == "isotonic"
    assert np.abs(chosen.of_log(bent) - p).mean() < 0.015


def test_dropped_negatives_are_undone() -> None:
    z, y, p = make_clicks(5, 200_000)
    kept = (y == 1) | (np.random.default_rng(0).random(len(y)) < 0.1)
    fitted = fit_calibration(z[kept], y[kept], negatives_kept=0.1)
    assert fitted.of_traffic(z).mean() == pytest.approx(p.mean(), rel=0.02)
    assert np.abs(fitted.of_traffic(z) - p).mean() < 0.01
    assert fitted.of_log(z[kept]).mean() == pytest.approx(y[kept].mean(), rel=0.02)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_platt_is_the_sigmoid_of_a_straight_line_and_nan_propagates(dtype: type[np.floating]) -> None:
    logits = np.append(np.linspace(-15, 15, 1_001), np.nan).astype(dtype)
    before = logits.copy()
    p = Calibration(method="platt", slope=0.7, intercept=-0.3).of_log(logits)
    np.testing.assert_allclose(p, sigmoid(0.7 * logits.astype(np.float64) - 0.3), rtol=1e-14)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("z", [np.array([-1e30, 1e30]), np.array([-np.float64(1e308), 1e308]), np.array([0.0, 0.0])])
def test_probabilities_stay_inside_the_open_interval(z: np.ndarray) -> None:
    for calibration in (
        Calibration(),
        fit_platt(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0])),
        fit_isotonic(np.arange(4.0), np.array([0.0, 0, 1, 1])),
    ):
        p = calibration.of_traffic(z)
        assert ((p >= MIN_PROBABILITY) & (p <= 1 - MIN_PROBABILITY)).all()


def test_a_score_that_ranks_backwards_only_shifts_the_mean() -> None:
    z, y, _ = make_clicks(6, 2_000)
    fitted = fit_platt(-z, y)
    assert fitted.slope == pytest.approx(1e-3)
    assert fitted.of_log(-z).mean() == pytest.approx(y.mean(), abs=0.01)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 50.0, 1e4])
def test_logits_of_any_size_are_fitted(scale: float) -> None:
    z, y, _ = make_clicks(7, 3_000)
    fitted = fit_platt(scale * z, y)
    before, after = (
        float(-np.where(y == 1, np.log(p), np.log1p(-p)).mean())
        for p in (Calibration().of_log(scale * z), fitted.of_log(scale * z))
    )
    assert after <= before


def test_points_that_are_not_ascending_are_refused() -> None:
    with pytest.raises(ValidationError, match="ascending"):
        Calibration(method="isotonic", logits=(0.0, 0.0), probabilities=(0.1, 0.2))


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
@pytest.mark.parametrize("offset", [-8.0, -1.0, 0.3, 8.0])
def test_the_level_shift_makes_calibrated_promises_equal_a_number_of_clicks(
    fit: Callable[[np.ndarray, np.ndarray], Calibration], offset: float
) -> None:
    z, y, _ = make_clicks(2, 5_000)
    calibration = fit(z, y)
    shift = level_shift(calibration, z + offset, calibration.of_log(z).sum())
    assert calibration.of_log(z + offset + shift).sum() == pytest.approx(calibration.of_log(z).sum(), rel=1e-4)
    assert shift == pytest.approx(-offset, abs=0.05)  # which undoes it
