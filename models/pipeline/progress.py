"""Progress on a terminal: bars that are redrawn in place; elsewhere a line every ten seconds."""

from __future__ import annotations

import sys

from tqdm import tqdm

PLAIN_EVERY_S = 10.0


class ProgressBar:
    """Shows rows/s and remaining time on a terminal; elsewhere prints a line every ten seconds."""

    def __init__(self, epochs: int | None) -> None:
        self._of_all = "" if epochs is None else f"/{epochs}"
        self._bar: tqdm[object] | None = None
        self._epoch = 0

    def __call__(self, epoch: int, done: int, total: int, loss: float) -> None:
        """Report progress, as `models.training.trainer.Progress`."""
        if epoch != self._epoch or self._bar is None:
            self.close()
            layout = "{desc}: {percentage:.0f}% of {total_fmt} rows, {rate_fmt}, {remaining} left{postfix}"
            self._bar = _make_bar(
                total, f"epoch {epoch}{self._of_all}", None if sys.stderr.isatty() else layout, unit="row"
            )
            self._epoch = epoch
        self._bar.set_postfix(log_loss=f"{loss:.4f}", refresh=False)
        self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def say(self, line: str) -> None:
        """Print one line about a stage."""
        self.close()
        print(line, file=sys.stderr)

    def close(self) -> None:
        """Finish the current bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class TuningBar:
    """Shows the share of the tuning time that is over, and the best loss so far."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._bar: tqdm[object] | None = None
        self._is_over = False

    def __call__(self, gone: float, trials: int, best: float) -> None:
        """Report progress, as `models.training.tuning.TuneProgress`."""
        if self._is_over:
            return
        if self._bar is None:
            layout = "{desc}: {percentage:.0f}% of {total:.0f} s{postfix}"
            self._bar = _make_bar(self._seconds, "tuning", layout, unit="s")
        self._bar.set_postfix(trials=trials, best=f"{best:.4f}", refresh=False)
        self._bar.update(gone - self._bar.n)
        if gone >= self._seconds:
            self._bar.close()
            self._is_over = True


class RowsBar:
    """Shows how many rows are done."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: tqdm[object] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Report progress, as `models.pipeline.scoring.Progress`."""
        if self._bar is None:
            layout = "{desc}: {percentage:.0f}% of {total_fmt} rows, {rate_fmt}, {remaining} left"
            self._bar = _make_bar(total, self._title, None if sys.stderr.isatty() else layout, unit="row")
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Finish the bar."""
        if self._bar is not None:
            self._bar.close()


def _make_bar(total: float, title: str, layout: str | None, unit: str) -> tqdm[object]:
    # On a terminal the bar is redrawn in place, elsewhere each state is a line of its own.
    is_terminal = sys.stderr.isatty()
    ending = layout if layout is None or is_terminal else layout + "\n"
    every = 0.2 if is_terminal else PLAIN_EVERY_S
    return tqdm(
        total=total, desc=title, unit=unit, unit_scale=True, mininterval=every, bar_format=ending, file=sys.stderr
    )
