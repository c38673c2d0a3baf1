"""Coverage-guided fuzzing of what stands between a socket's bytes and the model: both wires, and the encoder.

``python -m tests.hostile.fuzz_encoder -max_total_time=60 build/fuzz`` runs for a minute and keeps what it found; every
flag is libFuzzer's. A body is either refused by a `Problem` of 4xx or becomes a batch that fits the table, the same one
where the compiled reader takes it. Each input is taken twice: as a body, and as what a body of the right form is made from.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["app", "models"]):
    from app.problems import Problem
    from app.wire.field_types import MAX_SEQUENCE, MAX_TOKEN_CHARS
    from app.wire.predict_request import Wire
    from app.wire.rank_request import RankWire
    from models.artifact.artifact import Artifact, load_artifact
    from models.features.encoder import EncodedBatch, Encoder
    from models.features.request_reader import RowReader

from tests.hostile.composing import compose
from tests.hostile.corpus import BODIES, GOOD, INTEGERS, NUMBERS, SEQUENCES, TOKENS
from tests.making import make_artifact

FIELDS = {"user_id": INTEGERS, "ad_id": TOKENS, "price": NUMBERS, "clicked_ads": SEQUENCES}
MAX_SEED_BYTES = 2_000
MAX_ROWS = 64
# The memory is atheris's own: what it instruments takes 0.4 kB more at every call, what it does not nothing.
FLAGS = ["-max_len=4096", "-timeout=5", "-rss_limit_mb=4096", "-verbosity=0"]


def seeds() -> list[bytes]:
    """Return the corpus as first inputs, without what is too long to change a byte at a time."""
    values = [
        template % (name.encode(), case.text)
        for name, cases in FIELDS.items()
        for case in cases
        for template in (b'{"instances": [{"%s": %s}]}', b'{"inputs": {"%s": [%s]}}', b'{"candidates": [{"%s": %s}]}')
    ]
    bodies = [*GOOD.values(), *(case.text for case in BODIES), *values]
    return [body for body in bodies if len(body) <= MAX_SEED_BYTES]


def make_target(artifact: Artifact) -> Callable[[bytes], None]:
    """Return the function that one input is given to."""
    wire, rank_wire = Wire(artifact.schema, MAX_ROWS), RankWire(artifact.schema, MAX_ROWS)
    reader = RowReader(artifact.encoder, MAX_ROWS, MAX_TOKEN_CHARS, MAX_SEQUENCE)
    candidates, context = artifact.encoder.side("candidate"), artifact.encoder.side("context")

    def check(batch: EncodedBatch, encoder: Encoder, num_rows: int) -> None:
        assert len(batch) == num_rows
        assert batch.num_fields == len(encoder.fields)
        assert batch.ids.min(initial=0) >= 0
        assert batch.ids.max(initial=0) < artifact.encoder.num_rows
        assert (np.diff(batch.offsets) > 0).all()
        assert np.isclose(np.add.reduceat(batch.weights, batch.offsets[:-1]), 1).all()

    def predict(body: bytes) -> None:
        columns = wire.parse(body)
        check(artifact.encoder.encode(columns.values), artifact.encoder, columns.num_rows)

    def read(body: bytes) -> None:
        found = reader.read(body)
        if found is None:
            return
        columns = wire.validate(body)
        batch = artifact.encoder.encode(columns.values)
        assert not columns.unknown_fields
        assert np.array_equal(found.batch.ids, batch.ids)
        assert np.array_equal(found.batch.offsets, batch.offsets)

    def rank(body: bytes) -> None:
        request = rank_wire.parse(body)
        check(context.encode(request.context), context, 1)
        if request.candidates is not None:
            check(candidates.encode(request.candidates), candidates, len(request.candidates[0]))

    def catalog(body: bytes) -> None:
        rows = list(rank_wire.parse_catalog(body).values())
        if rows:
            check(candidates.encode(rank_wire.candidate_columns(rows)), candidates, len(rows))

    def target(data: bytes) -> None:
        answer_to(data)
        answer_to(compose(atheris.FuzzedDataProvider(data)))

    def answer_to(body: bytes) -> None:
        for look_at in (predict, rank, catalog):
            try:
                look_at(body)
            except Problem as problem:
                answer = problem.response()
                assert answer.status_code == 422, body
                assert len(answer.body) < 8_192, body
        try:
            read(body)
        except Problem as problem:
            raise AssertionError(body) from problem

    return target


def main() -> None:
    """Run until libFuzzer has enough."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        artifact = load_artifact(make_artifact(root / "artifacts"))
        first = root / "seeds"
        first.mkdir()
        for i, seed in enumerate(seeds()):
            (first / str(i)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *FLAGS, *sys.argv[1:], str(first)], make_target(artifact))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
