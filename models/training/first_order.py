"""Fits the first order alone: a logistic regression on the table rows, with a prior variance for each block of rows.

The variances maximise the evidence (type-II maximum likelihood, MacKay 1992): a field that says nothing gets a variance near
zero and costs nothing, and one whose few tokens differ much is hardly held back. Training starts from this optimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.evaluation.metrics import Labels
from models.features.packed_rows import PackedRows
from models.network.calibration import sigmoid

MAX_ENTRIES = 20_000_000
"""Of the impressions a random sample with at most about so many table rows is used: 400 MB, and less than a minute."""
NUM_UPDATES = 6
"""Of the variances; after that the held-out log loss hardly changes."""
NUM_PROBES = 2
"""Random vectors that estimate how well the rows of a block are determined, in each update."""
FEWEST_ROWS, TYPICAL_VARIANCE = 0.5, 0.01
"""Each variance is estimated as if the block had so many rows more, with this variance: else a block of few rows that the log
does not determine could get any."""
MIN_VARIANCE, MAX_VARIANCE = 1e-4, 10.0

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class FirstOrder:
    """The optimum.

    Args:
        weights: of each table row, float32 [R].
        bias: the intercept.
        variances: of the prior of each block's weights, float64 [V].
    """

    weights: Floats
    bias: float
    variances: NDArray[np.float64]

    def logits(self, rows: PackedRows) -> NDArray[np.float64]:
        """Return the logits float64 [B]."""
        return np.asarray(_one_hot(rows, len(self.weights)) @ self.weights, np.float64) + self.bias


def fit_first_order(
    rows: PackedRows, labels: Labels, block_starts: NDArray[np.int64], num_rows: int, variance: float, seed: int
) -> FirstOrder:
    """Fit weights and variances in turns.

    Args:
        rows: B training impressions.
        labels: 0 or 1, [B].
        block_starts: where the rows of each block begin, int64 [V].
        num_rows: rows of the table, R.
        variance: of all blocks at the beginning.
        seed: of the sample and the probes.
    """
    clicks = int(np.count_nonzero(labels))
    bias = float(np.log((clicks + 1) / (len(labels) - clicks + 1)))
    start = FirstOrder(np.zeros(num_rows, np.float32), bias, np.full(len(block_starts), variance))
    if clicks in (0, len(labels)):
        return start
    problem = _Regression(*_sample(rows, labels, seed), block_starts, num_rows)
    fitted, rng = problem.minimise(start, 4), np.random.default_rng(seed)
    for _ in range(NUM_UPDATES):
        fitted = problem.minimise(problem.update_variances(fitted, rng), 1)
    return problem.minimise(fitted, 2)


def refit_first_order(
    rows: PackedRows, labels: Labels, block_starts: NDArray[np.int64], before: FirstOrder, seed: int
) -> FirstOrder:
    """Return the optimum for more impressions with the variances of an earlier fit; arguments as in `fit_first_order`."""
    if np.count_nonzero(labels) in (0, len(labels)):
        return before
    return _Regression(*_sample(rows, labels, seed), block_starts, len(before.weights)).minimise(before, 3)


class _Regression:
    # Σ log loss + ½ Σ w²/variance of n impressions, by Newton's method; steps are solved by conjugate gradients.

    def __init__(self, rows: PackedRows, labels: Labels, block_starts: NDArray[np.int64], num_rows: int) -> None:
        self.x = _one_hot(rows, num_rows)
        self.transposed = csr_array(self.x.T)
        self.transposed.sum_duplicates()  # a token twice in a sequence
        self.squared = self.transposed.copy()
        self.squared.data **= 2
        self.labels = labels.astype(np.float64)
        self.sizes = np.diff(np.append(block_starts, num_rows))
        self.block_of = np.repeat(np.arange(len(block_starts)), self.sizes)

    def minimise(self, start: FirstOrder, steps: int) -> FirstOrder:
        w, b = start.weights, start.bias
        precision = self._precision(start)
        z = (self.x @ w).astype(np.float64) + b
        objective = self._objective(z, w, precision)
        for _ in range(steps):
            p = sigmoid(z)
            residuals = (p - self.labels).astype(np.float32)
            curvature = _Curvature(self, p, precision)
            direction, by_bias = curvature.solve(
                -(self.transposed @ residuals + precision * w), -float(residuals.sum())
            )
            change, size = self.x @ direction + np.float32(by_bias), 1.0
            while size > 1e-3:  # a full step, unless it leads too far
                w_next = w + np.float32(size) * direction
                next_objective = self._objective(z + size * change, w_next, precision)
                if next_objective <= objective:
                    w, b, z, objective = w_next, b + size * by_bias, z + size * change, next_objective
                    break
                size /= 2
        return FirstOrder(w, b, start.variances)

    def update_variances(self, fitted: FirstOrder, rng: np.random.Generator) -> FirstOrder:
        """Return the fit with variances Σ w² ÷ γ, γ = rows − Σ posterior variance ÷ prior variance (MacKay 1992, eq. 4.9).

        The posterior's covariance is the inverse of the curvature; a block's trace of it is estimated as zᵀ C⁻¹ z over random
        signs z (Hutchinson 1990), within what its diagonal and the prior allow.
        """
        precision, variances = self._precision(fitted), fitted.variances
        p = sigmoid((self.x @ fitted.weights).astype(np.float64) + fitted.bias)
        curvature = _Curvature(self, p, precision)
        traces = np.zeros(len(self.sizes))
        for _ in range(NUM_PROBES):
            signs = rng.choice(np.array([-1, 1], np.float32), len(precision))
            traces += self._sums(signs * curvature.solve(signs, 0.0)[0]) / NUM_PROBES
        traces = np.clip(traces, self._sums(1 / curvature.diagonal), self.sizes * variances)
        determined = self.sizes - traces / variances  # γ
        squares = self._sums(fitted.weights.astype(np.float64) ** 2)
        updated = (squares + FEWEST_ROWS * TYPICAL_VARIANCE) / (determined + FEWEST_ROWS)
        return FirstOrder(fitted.weights, fitted.bias, updated.clip(MIN_VARIANCE, MAX_VARIANCE))

    def _precision(self, fit: FirstOrder) -> Floats:
        precision: Floats = (1 / fit.variances).astype(np.float32)[self.block_of]
        return precision

    def _objective(self, z: NDArray[np.floating], w: Floats, precision: Floats) -> float:
        return float((np.logaddexp(0, z) - self.labels * z).sum() + 0.5 * (precision @ np.square(w)))

    def _sums(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = np.bincount(self.block_of, values, minlength=len(self.sizes)).astype(np.float64)
        return sums


class _Curvature:
    # The Hessian of the objective: Xᵀ p(1 − p) X + precision, with the intercept, which has no prior.

    def __init__(self, regression: _Regression, p: NDArray[np.float64], precision: Floats) -> None:
        self.x, self.transposed, self.precision = regression.x, regression.transposed, precision
        self.variance = (p * (1 - p)).astype(np.float32)
        self.diagonal: Floats = regression.squared @ self.variance + precision
        self.of_bias = max(float(self.variance.sum()), 1e-6)

    def solve(self, right: Floats, right_bias: float, tolerance: float = 0.03, most: int = 40) -> tuple[Floats, float]:
        """Solve by conjugate gradients with the diagonal as preconditioner (Jacobi)."""
        x, x_bias = np.zeros_like(right), 0.0
        left, left_bias = right.copy(), right_bias
        scaled, scaled_bias = left / self.diagonal, left_bias / self.of_bias
        q, q_bias = scaled.copy(), scaled_bias
        norm = first = float(left @ scaled) + left_bias * scaled_bias
        for _ in range(most):
            if norm <= tolerance**2 * first:
                break
            weighted = self.variance * (self.x @ q + np.float32(q_bias))
            h, h_bias = self.transposed @ weighted + self.precision * q, float(weighted.sum())
            size = norm / (float(q @ h) + q_bias * h_bias)
            x += np.float32(size) * q
            left -= np.float32(size) * h
            x_bias, left_bias = x_bias + size * q_bias, left_bias - size * h_bias
            scaled, scaled_bias = left / self.diagonal, left_bias / self.of_bias
            last, norm = norm, float(left @ scaled) + left_bias * scaled_bias
            q = scaled + np.float32(norm / last) * q
            q_bias = scaled_bias + norm / last * q_bias
        return x, x_bias


def _sample(rows: PackedRows, labels: Labels, seed: int) -> tuple[PackedRows, Labels]:
    most = max(1, int(MAX_ENTRIES * len(rows) / max(len(rows.ids), 1)))
    if len(rows) <= most:
        return rows, labels
    drawn = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
    return rows.select(drawn, rows.row_starts()), labels[drawn]


def _one_hot(rows: PackedRows, num_rows: int) -> csr_array:
    starts = rows.row_starts()
    index = np.int32 if starts[-1] < 2**31 else np.int64
    return csr_array((rows.weights(), rows.ids.astype(index), starts.astype(index)), shape=(len(rows), num_rows))
