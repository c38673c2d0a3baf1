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

from benchmarks.training.workload import EMBEDDING_DIM, WARM_UP_STEPS, answer, parse, rates, rows, sizes


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

    def fit(num_steps: int) -> tuple[float, float]:
        n = num_steps * options.batch_size
        columns = {name: values[:n].copy() for name, values in inputs.items()}
        started, cpu = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(sys.stderr):
            model.fit(columns, labels[:n], batch_size=options.batch_size, epochs=1, verbose=0)
        return time.perf_counter() - started, time.process_time() - cpu

    fit(1)
    promised = fit(WARM_UP_STEPS)[0] / WARM_UP_STEPS
    steps = int(np.clip(options.seconds / promised, 1, options.rows // options.batch_size))
    result = rates(steps, steps * options.batch_size, *fit(steps))
    answer("deepctr-torch", "fit() of one epoch, Adam", result, ["deepctr-torch", "torch", "numpy"])


if __name__ == "__main__":
    main()
