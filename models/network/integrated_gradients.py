"""What each input of the deep part contributes to its output: integrated gradients (Sundararajan et al. 2017), exactly.

Along the straight line from zero to the input x, the integral of the gradient, times x, sums to the change of the output. The
gradient of a network of rectifiers is constant between the points where a unit's sign changes; those points are computed, layer
by layer, so the integral is a finite sum. Dice is smooth: its integral is taken by Gauss-Legendre quadrature.

In numpy and float64: the compiled head has no gradients, and serving has no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from models.features.request_reader import keep_cpu
from models.network.head import DeepFMConfig, HiddenLayer, hidden_layer, layer_names

Array = NDArray[np.float64]

BLOCK = 32
"""Points of a line whose gradients are computed at once, a millisecond for a wide model."""
POINTS_OF_PANEL = 16
MAX_PANELS = 128
TOLERANCE = 1e-9
"""The largest |sum of contributions − change of the output| of a quadrature that is not refined any more."""


class DeepPart:
    """The deep part in evaluation mode.

    Args:
        config: sizes.
        tensors: as `models.network.head.head_tensors` says.
        yield_cpu: called after each millisecond of work or so.
    """

    def __init__(
        self,
        config: DeepFMConfig,
        tensors: Mapping[str, NDArray[np.generic]],
        yield_cpu: Callable[[], None] = keep_cpu,
    ) -> None:
        self._yield_cpu = yield_cpu
        t = {name: np.asarray(array, np.float64) for name, array in tensors.items()}
        output, _, _ = layer_names(config, len(config.hidden))
        self._hidden: list[HiddenLayer[np.float64]] = [hidden_layer(config, t, i) for i in range(len(config.hidden))]
        linear = [
            *((layer.weight, layer.bias) for layer in self._hidden),
            (t[f"{output}.weight"].T, t[f"{output}.bias"]),
        ]
        (self._first, self._first_bias), *self._rest = linear
        self._integrate = self._by_quadrature if config.activation == "dice" else self._by_segments

    def outputs(self, x: Array) -> Array:
        """Return the outputs float64 [n] of inputs float64 [n, F·E]."""
        return self._outputs(x @ self._first + self._first_bias)

    def contributions(self, x: Array) -> Array:
        """Return what each input of x, float64 [F·E], contributes to outputs(x) − outputs(0); float64 [F·E]."""
        direction = x @ self._first  # [H]: the first layer's sums grow by it from its bias
        gradient = self._integrate(direction) if self._hidden else np.ones(1)
        return x * (self._first @ gradient)

    def gradients(self, x: Array) -> Array:
        """Return the derivatives float64 [n, F·E] of the outputs by inputs float64 [n, F·E]."""
        z = x @ self._first + self._first_bias
        return self._backward(z, np.ones((len(x), 1))) @ self._first.T

    def _outputs(self, z: Array) -> Array:
        for layer, (weight, bias) in zip(self._hidden, self._rest, strict=True):
            z = z * _gain(layer, z) @ weight + bias
        return z[:, 0]

    def _by_segments(self, direction: Array) -> Array:
        """Return ∫ ∂output/∂z dt, float64 [H], for z = bias + t·direction and t from 0 to 1; piecewise linear activations."""
        t = np.array([0.0, 1.0])
        z = self._first_bias + t[:, np.newaxis] * direction  # [T, H], linear between the points t
        for layer, (weight, bias) in zip(self._hidden[:-1], self._rest, strict=False):
            t, z = _split(t, z)
            self._yield_cpu()
            z = z * _gain(layer, z) @ weight + bias
        t, _ = _split(t, z)
        return self._mean_gradient((t[1:] + t[:-1]) / 2, np.diff(t), direction)

    def _by_quadrature(self, direction: Array) -> Array:
        """Do what `_by_segments` does for smooth activations, with twice the points until the sum is right."""
        nodes, shares = np.polynomial.legendre.leggauss(POINTS_OF_PANEL)
        start, end = self._outputs(np.stack([self._first_bias, self._first_bias + direction]))
        panels = 4
        while True:
            t = (np.arange(panels)[:, np.newaxis] + (nodes + 1) / 2).reshape(-1) / panels
            gradient = self._mean_gradient(t, np.tile(shares / 2, panels) / panels, direction)
            if panels == MAX_PANELS or abs(direction @ gradient - (end - start)) <= TOLERANCE:
                return gradient
            panels *= 2

    def _mean_gradient(self, t: Array, shares: Array, direction: Array) -> Array:
        """Return Σ shares · ∂output/∂z, float64 [H], at the points t of the line; both float64 [T]."""
        total = np.zeros_like(direction)
        for start in range(0, len(t), BLOCK):
            self._yield_cpu()
            block = slice(start, start + BLOCK)
            z = self._first_bias + t[block, np.newaxis] * direction
            total += self._backward(z, shares[block, np.newaxis]).sum(axis=0)
        return total

    def _backward(self, z: Array, gradient: Array) -> Array:
        """Return ∂output/∂z, float64 [n, H], for the first layer's sums z, times a factor for each, float64 [n, 1]."""
        slopes = []
        for layer, (weight, bias) in zip(self._hidden, self._rest, strict=True):
            slopes.append(_slope(layer, z))
            z = z * _gain(layer, z) @ weight + bias
        for slope, (weight, _) in zip(reversed(slopes), reversed(self._rest), strict=True):
            gradient = slope * (gradient @ weight.T)
        return gradient


def _split(t: Array, z: Array) -> tuple[Array, Array]:
    """Add the points where a column of z, linear between the points t, crosses zero.

    Args:
        t: float64 [T], ascending.
        z: float64 [T, H].
    """
    segment, unit = np.nonzero(z[1:] * z[:-1] < 0)
    before, after = z[segment, unit], z[segment + 1, unit]
    crossings = t[segment] + (t[segment + 1] - t[segment]) * (before / (before - after))
    points = np.union1d(t, crossings)
    left = np.clip(np.searchsorted(t, points, side="right") - 1, 0, len(t) - 2)
    share = ((points - t[left]) / (t[left + 1] - t[left]))[:, np.newaxis]
    return points, z[left] * (1 - share) + z[left + 1] * share


def _relu(layer: HiddenLayer[np.float64], z: Array) -> Array:
    return (z > 0).astype(np.float64)


def _prelu(layer: HiddenLayer[np.float64], z: Array) -> Array:
    return np.where(z > 0, 1.0, layer.parameters)


def _dice_gate(layer: HiddenLayer[np.float64], z: Array) -> Array:
    _, mean, scale = layer.parameters
    gate: Array = 0.5 * (1 + np.tanh((z - mean) * scale / 2))  # the sigmoid, without overflow
    return gate


def _dice_gain(layer: HiddenLayer[np.float64], z: Array) -> Array:
    p, alpha = _dice_gate(layer, z), layer.parameters[0]
    gain: Array = p + (1 - p) * alpha
    return gain


def _dice_slope(layer: HiddenLayer[np.float64], z: Array) -> Array:
    p, (alpha, _, scale) = _dice_gate(layer, z), layer.parameters
    slope: Array = p + (1 - p) * alpha + z * (1 - alpha) * p * (1 - p) * scale
    return slope


GAINS: Mapping[str, Callable[[HiddenLayer[np.float64], Array], Array]] = {
    "relu": _relu,
    "prelu": _prelu,
    "dice": _dice_gain,
}
SLOPES: Mapping[str, Callable[[HiddenLayer[np.float64], Array], Array]] = {**GAINS, "dice": _dice_slope}


def _gain(layer: HiddenLayer[np.float64], z: Array) -> Array:
    """Return activation(z) ÷ z, float64 [n, width]."""
    return GAINS[layer.activation](layer, z)


def _slope(layer: HiddenLayer[np.float64], z: Array) -> Array:
    """Return the derivative of the activation at z, float64 [n, width]."""
    return SLOPES[layer.activation](layer, z)
