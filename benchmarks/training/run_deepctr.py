"""Time deepctr-torch: ``DeepFM(...).compile("adam", "binary_crossentropy")`` and ``fit``, as its quick start has it.

``fit`` cannot be stopped, so the number of rows is cut to what one step promises to do in the time given.
"""

from __future__ import annotations

import contextlib
import sys
import time

import numpy as np
import torch
from deepctr_torch.inputs import DenseFeat, SparseFeat
from deepctr_torch.models import DeepFM

from benchmarks.training.workload import EMBEDDING_DIM, WARM_UP_STEPS, answer, parse, rows, sizes


def main() -> None:
    """Run once."""
    options = parse()
    torch.set_num_threads(options.threads)
    ids, numbers, labels = rows(options.rows, options.ids)
    fields = [SparseFeat(f"C{i}", int(n), EMBEDDING_DIM) for i, n in enumerate(sizes(options.ids))]
    fields += [DenseFeat(f"I{i}", 1) for i in range(numbers.shape[1])]
    inputs = {f"C{i}": ids[:, i] for i in range(ids.shape[1])} | {
        f"I{i}": numbers[:, i] for i in range(numbers.shape[1])
    }
    model = DeepFM(fields, fields, dnn_hidden_units=tuple(options.hidden), device="cpu")
    model.compile("adam", "binary_crossentropy")

    def fit(num_steps: int) -> float:
        n = num_steps * options.batch_size
        columns = {name: values[:n].copy() for name, values in inputs.items()}
        started = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr):
            model.fit(columns, labels[:n], batch_size=options.batch_size, epochs=1, verbose=0)
        return time.perf_counter() - started

    fit(1)
    promised = fit(WARM_UP_STEPS) / WARM_UP_STEPS
    steps = int(np.clip(options.seconds / promised, 1, options.rows // options.batch_size))
    seconds = fit(steps)
    done = steps * options.batch_size
    result = {
        "steps": steps,
        "rows": done,
        "seconds": seconds,
        "rows_per_s": done / seconds,
        "ms_per_step": 1e3 * seconds / steps,
    }
    answer("deepctr-torch", "fit() of one epoch, Adam", result, ["deepctr-torch", "torch", "numpy"])


if __name__ == "__main__":
    main()
