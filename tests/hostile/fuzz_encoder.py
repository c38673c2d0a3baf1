"""Coverage-guided fuzzing of what reads the bytes of a request: both wires, the compiled reader and the encoder.

``python -m tests.hostile.fuzz_encoder -max_total_time=60 build/fuzz`` runs for a minute and keeps what it found; the flags
are libFuzzer's. A body is either refused by a `Problem` of status 422 or becomes a batch that fits the table. What the compiled
reader accepts, Pydantic and the encoder accept too, with the same batch and counts. Each input is used twice: as a body, and
as the choices from which a body of the right form is composed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["app", "models"]):
    from app.http.error_answers import answer_of
    from app.problems import Problem
    from app.wire.predict_request import PredictWire
    from app.wire.rank_request import RankWire
    from models.artifact.artifact import Artifact, load_artifact
    from models.features.encoder import EncodedBatch, Encoder
    from models.features.request_reader import PredictReading, RankReading

from tests.hostile.composing import compose
from tests.hostile.corpus import BODIES, FIELDS, GOOD
from tests.making import make_artifact

TEMPLATES = (
    b'{"instances": [{"%s": %s}]}',
    b'{"inputs": {"%s": [%s]}}',
    b'{"candidates": [{"%s": %s}]}',
    b'{"candidate_ids": ["a"], "context": {"%s": %s}, "top_k": 1}',
)
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
        for template in TEMPLATES
    ]
    bodies = [*GOOD.values(), *(case.text for case in BODIES), *values]
    return [body for body in bodies if len(body) <= MAX_SEED_BYTES]


def make_target(artifact: Artifact) -> Callable[[bytes], None]:
    """Return the function that one input is given to."""
    predict_wire = PredictWire(artifact.schema, artifact.encoder, MAX_ROWS)
    rank_wire = RankWire(artifact.schema, artifact.encoder, MAX_ROWS)
    candidates, context = artifact.encoder.side("candidate"), artifact.encoder.side("context")

    def check(batch: EncodedBatch | None, encoder: Encoder, num_rows: int | None = None) -> None:
        assert batch is not None
        assert num_rows in (None, len(batch))
        assert batch.num_fields == len(encoder.fields)
        assert batch.ids.min(initial=0) >= 0
        assert batch.ids.max(initial=0) < artifact.encoder.num_rows
        assert (np.diff(batch.offsets) > 0).all()
        assert np.isclose(np.add.reduceat(np.square(batch.weights), batch.offsets[:-1]), 1).all()

    def check_same(wire: PredictWire | RankWire, found: PredictReading | RankReading, body: bytes) -> None:
        try:
            expected = wire.read_with_pydantic(body)
        except Problem as problem:
            if problem.errors and "Invalid JSON: number out of range" in problem.errors[0]["message"]:
                return  # an integer of thousands of digits in an unknown field
            raise AssertionError(body) from problem
        # A name that is given twice in a row is counted twice by one of them, unless it is a plain one.
        for a, b in zip(found._replace(unknown_fields={}), expected._replace(unknown_fields={}), strict=True):
            if isinstance(a, EncodedBatch):
                assert isinstance(b, EncodedBatch)
                for part in ("ids", "offsets", "weights"):
                    assert np.array_equal(getattr(a, part), getattr(b, part)), body
            else:
                assert a == b, body

    def predict(body: bytes) -> None:
        found = predict_wire.read(body)
        check(found.batch, artifact.encoder)
        check_same(predict_wire, found, body)

    def rank(body: bytes) -> None:
        found = rank_wire.read(body)
        check(found.context, context, 1)
        if found.candidate_ids is None:
            check(found.candidates, candidates)
        check_same(rank_wire, found, body)

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
                answer = answer_of(problem, None)
                assert answer.status == 422, body
                assert len(answer.body) < 8_192, body

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
