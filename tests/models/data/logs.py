"""One click log, written in the ways that people write logs, and what inference and encoding make of a file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.chunk_encoder import ChunkEncoder
from models.data.fitting import fit_encoder
from models.data.impressions import read_chunks
from models.data.schema_inference import InferredSchema, infer_schema
from models.data.time_format import with_time_format
from models.data.token_log import TokenLog
from models.features.encoder import FeatureEncoder

NUM_ROWS = 400
START = datetime(2024, 6, 1, tzinfo=UTC)


def moments(num_rows: int = NUM_ROWS) -> list[datetime]:
    """Return times of 18 days in their order."""
    return [START + timedelta(minutes=61 * i, seconds=i) for i in range(num_rows)]


def make_log(num_rows: int = NUM_ROWS) -> pl.DataFrame:
    """Return a log with ids, some of them null, texts, truth values, numbers and lists, in order of time."""
    rng = np.random.default_rng(5)
    users = rng.integers(1_000, 1_040, num_rows)
    tags = [[f"g{t}" for t in rng.integers(0, 6, rng.integers(1, 5))] for _ in range(num_rows)]
    return pl.DataFrame(
        {
            "click": rng.integers(0, 2, num_rows),
            "user_id": [None if i % 17 == 3 else int(u) for i, u in enumerate(users)],
            "ad_id": rng.integers(50_000, 50_020, num_rows),
            "device": [["tv", "phone", None, 'a "b", c'][i] for i in rng.integers(0, 4, num_rows)],
            "is_new": rng.integers(0, 2, num_rows).astype(bool),
            "price": [
                None if i % 13 == 5 else float(np.round(x, 2)) for i, x in enumerate(rng.exponential(5, num_rows))
            ],
            "tags": tags,
            "ts": [int(moment.timestamp()) for moment in moments(num_rows)],
        }
    )


def flat(frame: pl.DataFrame, separator: str = "|") -> pl.DataFrame:
    """Return a frame whose lists are texts."""
    return frame.with_columns(pl.col("tags").list.join(separator))


class Encoded(NamedTuple):
    """What a log becomes."""

    inferred: InferredSchema
    encoder: FeatureEncoder
    ids: NDArray[np.int32]
    labels: NDArray[np.int8]

    @property
    def tokens(self) -> dict[str, list[str]]:
        return {name: vocabulary.tokens() for name, vocabulary in self.encoder.vocabularies.items()}


def encode(path: Path | str, label: str = "click") -> Encoded:
    """Infer a schema from a file or folder, and encode all its rows."""
    patterns = [str(path)]
    inferred = infer_schema(patterns, label)
    schema = with_time_format(patterns, inferred.schema)
    log = TokenLog(schema)
    for chunk in read_chunks(patterns, schema):
        log.append(chunk)
    encoder, labels = fit_encoder(log, np.arange(log.num_rows)), log.labels()
    chunks = ChunkEncoder(encoder, log)
    ids = np.concatenate([chunks.encode(chunk).ids for chunk in log.drain()])
    return Encoded(inferred, encoder, ids, labels)


def csv(**options: Any) -> Callable[[pl.DataFrame, Path], Path]:
    """Return what writes delimited text as ``name``."""
    name: str = options.pop("name", "log.csv")
    list_separator: str = options.pop("list_separator", "|")

    def write(frame: pl.DataFrame, folder: Path) -> Path:
        text = flat(frame, list_separator).write_csv(**options)
        data = text.encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") or name == "part-00000" else data)
        return folder / name

    return write


def json_lines(name: str) -> Callable[[pl.DataFrame, Path], Path]:
    """Return what writes JSON lines."""

    def write(frame: pl.DataFrame, folder: Path) -> Path:
        lines = "\n".join(json.dumps(row) for row in frame.iter_rows(named=True)).encode()
        (folder / name).write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
        return folder / name

    return write


def parquet(**types: Any) -> Callable[[pl.DataFrame, Path], Path]:
    """Return what writes Parquet with other column types."""
    name: str = types.pop("name", "log.parquet")

    def write(frame: pl.DataFrame, folder: Path) -> Path:
        frame.with_columns(pl.col(c).cast(dtype, strict=False) for c, dtype in types.items()).write_parquet(
            folder / name
        )
        return folder / name

    return write


def in_parts(frame: pl.DataFrame, folder: Path) -> Path:
    """Write a folder of parts of several kinds, with an empty one and a mark of success beside them."""
    (folder / "log").mkdir()
    third = frame.height // 3
    floats = flat(frame[:third]).with_columns(pl.col("user_id", "ad_id").cast(pl.Float64))
    floats.write_csv(folder / "log" / "part-0.csv")
    (folder / "log" / "part-0b.csv").write_bytes(b"")
    flat(frame[third : 2 * third]).write_csv(folder / "log" / "part-1.csv")
    flat(frame[2 * third :]).with_columns(pl.col("ts").cast(pl.Int32)).write_parquet(folder / "log" / "part-2.parquet")
    (folder / "log" / "_SUCCESS").write_bytes(b"")
    (folder / "log" / ".part-1.csv.crc").write_bytes(b"crc")
    return folder / "log"


def as_decimal_comma(frame: pl.DataFrame, folder: Path) -> Path:
    """Write numbers with a comma, as spreadsheets of many countries do."""
    price = pl.col("price").cast(pl.String).str.replace(".", ",", literal=True)
    flat(frame).with_columns(price).write_csv(folder / "log.csv", separator=";")
    return folder / "log.csv"


def with_null_words(frame: pl.DataFrame, folder: Path) -> Path:
    """Write the nulls of numbers as words."""
    price = pl.col("price").cast(pl.String).fill_null("NaN")
    user = pl.col("user_id").cast(pl.String).fill_null("NA")
    flat(frame).with_columns(price, user).write_csv(folder / "log.csv")
    return folder / "log.csv"


def python_lists(frame: pl.DataFrame, folder: Path) -> Path:
    """Write lists as Python prints them."""
    tags = pl.Series("tags", [str(tags) for tags in frame["tags"].to_list()])
    frame.with_columns(tags).write_csv(folder / "log.csv")
    return folder / "log.csv"


WRITERS: dict[str, Callable[[pl.DataFrame, Path], Path]] = {
    "csv": csv(),
    "csv, upper case": csv(name="LOG.CSV"),
    "tsv": csv(name="log.tsv", separator="\t"),
    "txt, semicolons": csv(name="log.txt", separator=";"),
    "csv, pipes and carets": csv(separator="|", list_separator="^"),
    "csv, all quoted": csv(quote_style="always"),
    "csv, line ends of Windows": csv(line_terminator="\r\n"),
    "csv, byte order mark": csv(include_bom=True),
    "csv.gz": csv(name="log.csv.gz"),
    "part without an ending": csv(name="part-00000"),
    "no known ending": csv(name="log.dump", separator="\t"),
    "csv, carets": csv(list_separator="^"),
    "csv, commas in lists": csv(list_separator=","),
    "csv, lists of Python": python_lists,
    "csv, decimal commas": as_decimal_comma,
    "csv, words for nulls": with_null_words,
    "jsonl": json_lines("log.jsonl"),
    "ndjson.gz": json_lines("log.ndjson.gz"),
    "parquet": parquet(),
    "parquet, pq": parquet(name="log.pq"),
    "parquet, no ending": parquet(name="part-r-00000"),
    "parquet, float ids": parquet(user_id=pl.Float64, ad_id=pl.Float32),
    "parquet, decimals": parquet(ad_id=pl.Decimal(20, 0), price=pl.Decimal(18, 4)),
    "parquet, dictionaries": parquet(device=pl.Categorical),
    "parquet, binary text": parquet(device=pl.Binary),
    "parquet, unsigned": parquet(ad_id=pl.UInt64, user_id=pl.UInt32),
    "parquet, small types": parquet(click=pl.Int8, price=pl.Float64, ts=pl.UInt32),
    "parquet, ids as text": parquet(user_id=pl.String, ad_id=pl.String),
    "parquet, label as truth value": parquet(click=pl.Boolean),
    "folder of parts": in_parts,
}
