"""The same DeepFM as anybody would write it for a model server: dictionaries for ids, torch for the rest, one thread.

Runs in a peer's own environment: torch, numpy and safetensors, nothing of ctrserve.
"""

import json
import os
from bisect import bisect_right
from pathlib import Path

import torch
from safetensors.torch import load_file

MISSING, OOV, NUM_SPECIAL = 0, 1, 2


class ReferenceModel:
    def __init__(self) -> None:
        torch.set_num_threads(1)
        root = Path(os.environ["BENCHMARK_MODEL"])
        described = json.loads((root / "vocabulary.json").read_text())
        weights = load_file(root / "model.safetensors")
        self.table = weights["table"]
        self.ids = {token: NUM_SPECIAL + i for i, token in enumerate(described["tokens"])}
        self.starts = described["starts"]
        self.boundaries = described["boundaries"]
        self.bias = weights["bias"]
        self.layers = [(weights[f"deep.{i}.weight"], weights[f"deep.{i}.bias"]) for i in (0, 2, 4, 6)]

    def encode(self, row: dict) -> list[int]:
        out = []
        for name, start in self.starts.items():
            value = row.get(name)
            if value is None:
                out.append(start + MISSING)
            elif name[0] == "C":
                out.append(start + self.ids.get(value, OOV))
            else:
                out.append(start + NUM_SPECIAL + bisect_right(self.boundaries, value))
        return out

    @torch.inference_mode()
    def predict(self, rows: list[dict]) -> list[float]:
        fields = self.table[torch.tensor([self.encode(row) for row in rows])]
        v, w = fields[..., :-1], fields[..., -1]
        second = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        x = v.flatten(1)
        for weight, bias in self.layers[:-1]:
            x = torch.relu(torch.nn.functional.linear(x, weight, bias))
        weight, bias = self.layers[-1]
        deep = torch.nn.functional.linear(x, weight, bias).squeeze(1)
        return torch.sigmoid(self.bias + w.sum(1) + second + deep).tolist()
