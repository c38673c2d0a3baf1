"""Heads with random weights, and what they score."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from models.network.compiled_head import CompiledHead
from models.network.deepfm import DeepFMHead
from models.network.head import DeepFMConfig, Floats, Head, Pooled
from models.network.torch_head import TorchHead

WIDTHS = (16, 8, 4) if find_spec("models._native") else ()
"""Numbers in a vector of the compiled head: a processor without the longer ones runs the longest that it has."""
SHAPES = [(39, 16, (400, 400, 400)), (5, 4, (7,)), (3, 1, (17, 33)), (12, 8, (64, 63, 1)), (1, 3, (16,)), (4, 5, ())]


def make_module(config: DeepFMConfig, num_fields: int, seed: int = 0) -> DeepFMHead:
    """Return a module with every tensor away from its initial value, running statistics included."""
    torch.manual_seed(seed)
    module = DeepFMHead(config, num_fields)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand_like(buffer))
    return module.eval()


def tensors_of(module: DeepFMHead) -> Mapping[str, NDArray[np.generic]]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def make_heads(module: DeepFMHead) -> list[Head]:
    """Return all heads for scoring that there are."""
    arguments = module.config, module.num_fields, tensors_of(module)
    return [TorchHead(*arguments), *(CompiledHead(*arguments, longest=width) for width in WIDTHS)]


def make_fields(num_rows: int, num_fields: int, dim: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_rows, num_fields * (dim + 1)), dtype=np.float32) * np.float32(0.3)


def pooled(fields: Floats, num_fields: int) -> Pooled:
    return Pooled(fields, np.zeros(len(fields) * num_fields, np.int64))


def reference(module: DeepFMHead, fields: Floats) -> NDArray[np.float64]:
    """Return the module's logits, computed in float64."""
    with torch.no_grad():
        shape = len(fields), module.num_fields, module.config.embedding_dim + 1
        logits: NDArray[np.float64] = module.double()(torch.from_numpy(fields).double().view(shape)).numpy()
    module.float()
    return logits
