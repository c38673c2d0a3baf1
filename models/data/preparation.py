"""Prepares a log for training: reads it once, splits it, fits the encoder and encodes. The same path for all sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.artifact.golden_rows import NUM_GOLDEN
from models.artifact.manifest import DataFacts
from models.data.champion import Champion, check_readable, score_log
from models.data.fitting import fit_encoder
from models.data.impressions import read_chunks
from models.data.log_files import find_files
from models.data.part_encoder import HeldOut, PartEncoder
from models.data.shards import Part
from models.data.split import Parts, printable_time, split_rows
from models.data.time_format import with_time_format
from models.data.token_log import TokenLog
from models.data.warm_start import Inheritance, check_fits, inherit
from models.features.encoder import FeatureEncoder
from models.schema.feature_schema import FeatureSchema

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A log ready for training.

    Args:
        schema: of the log.
        encoder: fitted to the training rows.
        facts: files, rows, time spans and digest of the log, for the manifest.
        train: shards of the training rows.
        labels: of all training rows, float32, oldest first.
        counts: how often the training rows hold each table row, int64 [R].
        missing: number of training values of each field that were MISSING, int64 [F].
        held_out: ``validation`` and, if the split has one, ``test``.
        golden: canonical rows of the last part, from which the golden rows are made.
        inheritance: what the model starts from in a warm start.
        champion: an earlier artifact's probabilities of the held-out parts, if there is one to compare with.
    """

    schema: FeatureSchema
    encoder: FeatureEncoder
    facts: DataFacts
    train: tuple[Part, ...]
    labels: NDArray[np.float32]
    counts: NDArray[np.int64]
    missing: NDArray[np.int64]
    held_out: Mapping[str, HeldOut]
    golden: pl.DataFrame
    inheritance: Inheritance | None
    champion: Champion | None


def prepare(
    data: Sequence[str],
    schema: FeatureSchema,
    seed: int,
    shard_rows: int,
    folder: Path,
    say: Say,
    artifact: Artifact | None = None,
    compare: Artifact | None = None,
) -> Prepared:
    """Read, split and encode a log.

    Args:
        data: paths or glob patterns.
        schema: what the columns mean.
        seed: of a random split, and of how rows are distributed to shards.
        shard_rows: a log with more rows than this is kept on disk.
        folder: for the files of such a log; created when needed, removed by the caller.
        say: called with one line for each stage.
        artifact: of a warm start: its tokens, bins and weights are the start of the new model.
        compare: an earlier artifact that scores the held-out parts too.

    Raises:
        LogError: the log cannot be read as the schema says.
        SchemaError: a part would be empty or hold one class only, or the schema does not fit one of the artifacts.
    """
    if compare is not None:
        check_readable(compare, schema)
    if artifact is not None:
        check_fits(artifact, schema)
    schema = with_time_format(data, schema)
    log = TokenLog(schema, folder, shard_rows)
    for chunk in read_chunks(data, schema):
        log.append(chunk)
    labels, times = log.labels(), log.take_times()
    if times is not None and times.null_count():
        say(f"{times.null_count():,} rows have no time that can be read: they are training rows")
    parts = split_rows(labels, times, schema, seed)
    window = {} if times is None else _window(times, parts)
    del times
    place = "on disk" if log.is_on_disk else "in memory"
    spans = {name: f" ({first} to {last})" for name, (first, last) in window.items()}
    rows = ", ".join(f"{len(rows):,} {name}{spans.get(name, '')}" for name, rows in parts.by_name.items())
    say(f"{log.num_rows:,} rows, {place}: {rows}")
    encoder = fit_encoder(log, parts.train, artifact)
    say(f"{len(encoder.fields)} fields, {encoder.num_rows:,} table rows")
    held_out = {"validation": parts.validation} | ({"test": parts.test} if len(parts.test) else {})
    last = list(held_out.values())[-1]
    golden = log.frame(last[np.linspace(0, len(last) - 1, NUM_GOLDEN // 2).astype(np.int64)])
    champion = None if compare is None else score_log(compare, log, held_out)
    encoded = PartEncoder(log, encoder, parts, labels, seed, shard_rows)
    encoded.run()
    return Prepared(
        schema=schema,
        encoder=encoder,
        facts=DataFacts(
            files=tuple(path.name for path in find_files(data)),
            rows={name: len(rows) for name, rows in parts.by_name.items()},
            window=window,
            digest=encoded.digest(),
        ),
        train=encoded.train(),
        labels=labels[parts.train].astype(np.float32),
        counts=encoded.counts["train"],
        missing=encoded.special["train"][0],
        held_out={name: encoded.held_out(name) for name in held_out},
        golden=golden,
        inheritance=None if artifact is None else inherit(artifact, encoder),
        champion=champion,
    )


def _window(times: pl.Series, parts: Parts) -> dict[str, tuple[str, str]]:
    # The first and the last time of each part, in words.
    known = times.is_not_null().to_numpy()
    timed = {name: rows[known[rows]] for name, rows in parts.by_name.items()}
    ends = {name: (int(rows[0]), int(rows[-1])) for name, rows in timed.items() if len(rows)}
    return {name: (printable_time(times[first]), printable_time(times[last])) for name, (first, last) in ends.items()}
