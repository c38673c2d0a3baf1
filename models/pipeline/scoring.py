"""Scores the files of a log with an artifact: any size, in order, resumable. Prints nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.artifact.current import sync
from models.data.columns import plain, read_labels
from models.data.frame_encoder import EncodedFrame, FrameEncoder
from models.data.frames import FrameFile, RawFrame, frame_fields
from models.data.log_files import UNREADABLE, find_files, first_line, scan_file
from models.errors import LogError
from models.evaluation.cold_start import cold_fields
from models.network.predictor import Predictor, score_rows
from models.pipeline.score_parts import Entry, PartFolder

PART_ROWS = 2**18
"""Rows of a part: a second of work, which is all that a run that is stopped loses."""
PROBABILITY, VERSION = "probability", "model_version"
LABEL, LOGIT, COLD = "\0label", "\0logit", "\0cold "
"""Columns of parts that are for the report only."""

Progress = Callable[[int, int], None]
"""Called with the rows that are scored and all rows."""


@dataclass(frozen=True)
class ScoredLog:
    """A scored log.

    Args:
        files: that were scored.
        rows: number of rows.
        resumed_rows: those of an earlier run.
        parts: with the columns of the report; removed by the caller.
        has_labels: whether every file has the label's column.
        values: of each field, how many values there are.
        missing: of each field, how many are MISSING.
        unseen: of each field, how many are OOV.
    """

    files: tuple[Path, ...]
    rows: int
    resumed_rows: int
    parts: PartFolder
    has_labels: bool
    values: Mapping[str, int]
    missing: Mapping[str, int]
    unseen: Mapping[str, int]


def score_frame(predictor: Predictor, encoded: EncodedFrame, table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits float32 [B] of encoded impressions."""
    return np.concatenate([score_rows(predictor, block, table) for block in encoded.blocks()])


def score_log(
    artifact: Artifact, patterns: Sequence[str], out: Path, keep: Sequence[str], progress: Progress
) -> ScoredLog:
    """Score a log and write ``out``: the columns to keep, the probability and the model's version, row by row in order.

    Probabilities equal those of ``/predict`` to the bit. A run that was stopped goes on when it is called again for the
    same files, artifact and columns.

    Args:
        artifact: verified.
        patterns: paths or glob patterns of files that have the artifact's fields.
        out: a ``.parquet`` or ``.csv`` file; replaced when all is scored.
        keep: columns of the log to write too; ``*`` for all.
        progress: called after some rows.

    Raises:
        LogError: the log cannot be read as the artifact's schema says, or ``out`` not written.
    """
    schema = artifact.schema.features
    files = find_files(patterns)
    if out.suffix not in (".parquet", ".csv"):
        raise LogError(f"{out}: expected a name that ends with .parquet or .csv")
    if out.resolve() in {path.resolve() for path in files}:
        raise LogError(f"{out}: is a file of the log")
    if not out.parent.is_dir():
        raise LogError(f"{out.parent}: no such directory")
    names = [field.name for field in schema.fields]
    report = list(dict.fromkeys([schema.label, *([schema.group] if schema.group else []), *schema.segments]))
    types = scan_file(files[0], schema.log).collect_schema()
    kept = tuple(types) if "*" in keep else tuple(dict.fromkeys(keep))
    if out.suffix == ".csv" and (lists := [name for name in kept if isinstance(types.get(name), pl.List)]):
        raise LogError(f"{out}: CSV cannot hold the lists of column {lists[0]!r}; use .parquet")
    if doubled := {PROBABILITY, VERSION} & set(kept):
        raise LogError(f"the log has a column {min(doubled)!r}, which the result would have twice")
    needed = [field.name for field in schema.fields if field.derived is None]
    if_there = [*report, *(set(names) - set(needed)), *(c for c in (schema.split.column, schema.split.clock) if c)]
    opened = [FrameFile(path, schema.log, [*needed, *kept], if_there) for path in files]
    has_labels = schema.impressions is None and all(schema.label in file.columns for file in opened)
    parts = PartFolder(out.with_name(f".{out.name}.parts"), _job(artifact, files, kept, has_labels=has_labels))
    sizes = [file.count_rows() for file in opened]
    resumed = done = sum(entry.rows for entry in parts.entries)
    scorer = _Scorer(artifact, report if has_labels else ())
    for number, file in enumerate(opened):
        start = parts.rows_of(number)
        buffer = _Buffer(number, len(names))
        for raw in file.read(start) if start < sizes[number] else ():
            buffer.append(*scorer.score(raw, kept))
            done += raw.frame.height
            progress(done, sum(sizes))
            if buffer.rows >= PART_ROWS:
                parts.add(*buffer.take())
        if buffer.rows:
            parts.add(*buffer.take())
    if not done:
        raise LogError(f"{files[0]}: the log has no rows")
    _assemble(parts, out, artifact.model_version, kept)
    totals = np.array([[e.values, e.missing, e.unseen] for e in parts.entries]).sum(axis=0)
    counts = [dict(zip(names, total, strict=True)) for total in totals.tolist()]
    return ScoredLog(tuple(files), done, resumed, parts, has_labels, *counts)


def _job(artifact: Artifact, files: Sequence[Path], keep: Sequence[str], *, has_labels: bool) -> str:
    described = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr((artifact.manifest_sha256, described, list(keep), has_labels)).encode()).hexdigest()


class _Scorer:
    def __init__(self, artifact: Artifact, report: Sequence[str]) -> None:
        self._artifact = artifact
        self._encoder = FrameEncoder(artifact.encoder)
        self._report = report
        self._cold = cold_fields(artifact.encoder)

    def score(self, raw: RawFrame, keep: Sequence[str]) -> tuple[pl.DataFrame, EncodedFrame]:
        predictor, schema = self._artifact.predictor, self._artifact.schema.features
        encoded = self._encoder.encode(frame_fields(raw.frame, raw.position, schema))
        logits = score_frame(predictor, encoded, self._artifact.table)
        probability = predictor.probabilities(logits)
        if not np.isfinite(probability.sum()):
            raise LogError(f"{raw.position.path}: a probability is not finite")
        columns = [*(raw.frame[name] for name in keep), pl.Series(PROBABILITY, probability)]
        if self._report:
            columns += self._for_report(raw, encoded, logits)
        return pl.DataFrame(columns), encoded

    def _for_report(self, raw: RawFrame, encoded: EncodedFrame, logits: NDArray[np.float32]) -> list[pl.Series]:
        label, *others = self._report
        positive, given = self._artifact.schema.features.positive, plain(raw.frame[label])
        labels = read_labels(given, raw.position, positive, may_be_null=True)
        found = [labels.clip(lower_bound=0).alias(LABEL), pl.Series(LOGIT, logits)]
        found += [raw.frame[name].cast(pl.String).alias(f"\0{name}") for name in others if name in raw.frame.columns]
        oov = self._artifact.encoder.oov_rows
        return found + [pl.Series(COLD + name, encoded.columns[f].ids == oov[f]) for name, f in self._cold.items()]


class _Buffer:
    # The rows of a part until there are enough.
    def __init__(self, file: int, num_fields: int) -> None:
        self._file = file
        self._num_fields = num_fields
        self._empty()

    def _empty(self) -> None:
        self._frames: list[pl.DataFrame] = []
        self._counts = np.zeros((3, self._num_fields), np.int64)
        self.rows = 0

    def append(self, frame: pl.DataFrame, encoded: EncodedFrame) -> None:
        self._frames.append(frame)
        self._counts += np.concatenate([encoded.count_values()[np.newaxis], encoded.count_special()])
        self.rows += frame.height

    def take(self) -> tuple[pl.DataFrame, Entry]:
        found = pl.concat(self._frames), Entry(self._file, self.rows, *self._counts.tolist())
        self._empty()
        return found


def _assemble(parts: PartFolder, out: Path, model_version: str, keep: Sequence[str]) -> None:
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        whole = pl.scan_parquet(parts.paths()).select(*keep, PROBABILITY, pl.lit(model_version).alias(VERSION))
        if out.suffix == ".csv":
            whole.sink_csv(temporary)
        else:
            whole.sink_parquet(temporary)
    except UNREADABLE as error:
        temporary.unlink(missing_ok=True)
        raise LogError(f"{out}: cannot be written: {first_line(error)}") from error
    sync(temporary)
    temporary.rename(out)
    sync(out.parent)
