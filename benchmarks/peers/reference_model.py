"""The same DeepFM as a careful engineer would write it for a model server: dictionaries for ids, torch for the rest.

Runs in a peer's own environment: torch, numpy and safetensors, nothing of ctrserve. One thread, inference mode, one
gather, ids through one flat numpy array (a nested list costs a model server more than the model does).
"""

import json
import os
from bisect import bisect_right
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

MISSING, OOV, NUM_SPECIAL = 0, 1, 2


class ReferenceModel:
    def __init__(self) -> None:
        torch.set_num_threads(1)
        root = Path(os.environ["BENCHMARK_MODEL"])
        described = json.loads((root / "vocabulary.json").read_text())
        weights = load_file(root / "model.safetensors")
        self.table = weights["table"]
        self.ids = {token: NUM_SPECIAL + i for i, token in enumerate(described["tokens"])}
        starts = described["starts"]
        self.categorical = [(name, start) for name, start in starts.items() if name[0] == "C"]
        self.numeric = [(name, start) for name, start in starts.items() if name[0] != "C"]
        self.boundaries = described["boundaries"]
        self.bias = weights["bias"]
        last = max(int(name.split(".")[1]) for name in weights if name.startswith("deep."))
        self.layers = [(weights[f"deep.{i}.weight"], weights[f"deep.{i}.bias"]) for i in range(0, last + 1, 2)]

    def encode(self, rows: list[dict]) -> list[int]:
        """Return the table rows of all rows' fields, one after the other, the categorical fields first."""
        out, find, boundaries = [], self.ids.get, self.boundaries
        for row in rows:
            value_of = row.get
            for name, start in self.categorical:
                value = value_of(name)
                out.append(start + (MISSING if value is None else find(value, OOV)))
            for name, start in self.numeric:
                value = value_of(name)
                out.append(start + (MISSING if value is None else NUM_SPECIAL + bisect_right(boundaries, value)))
        return out

    @torch.inference_mode()
    def predict(self, rows: list[dict]) -> list[float]:
        ids = torch.from_numpy(np.array(self.encode(rows), np.int64))
        fields = self.table[ids].view(len(rows), -1, self.table.shape[1])
        v, w = fields[..., :-1], fields[..., -1]
        second = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        x = v.flatten(1)
        for weight, bias in self.layers[:-1]:
            x = torch.relu_(linear(x, weight, bias))
        weight, bias = self.layers[-1]
        return torch.sigmoid(self.bias + w.sum(1) + second + linear(x, weight, bias).squeeze(1)).tolist()

    def predict_many(self, requests: list[list[dict]]) -> list[list[float]]:
        """Answer several requests with one pass."""
        flat = self.predict([row for rows in requests for row in rows])
        out, at = [], 0
        for rows in requests:
            out.append(flat[at : at + len(rows)])
            at += len(rows)
        return out
