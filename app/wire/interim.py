"""Interim: the reader's interface over the old wires."""

from typing import Any, NamedTuple

from app.wire.predict_request import Wire
from app.wire.rank_request import RankWire as Old
from models.features.request_reader import RowReader


class PredictReading(NamedTuple):
    batch: Any
    missing: Any
    unseen: Any
    unknown_fields: Any


class RankReading(NamedTuple):
    context: Any
    candidates: Any
    candidate_ids: Any
    top_k: Any
    missing: Any
    unseen: Any
    unknown_fields: Any


class PredictWire:
    def __init__(self, schema: Any, encoder: Any, max_rows: int, pause: Any) -> None:
        self.encoder = encoder
        self.wire = Wire(schema, max_rows)
        self.reader = RowReader(encoder, max_rows, 256, 1000, pause)
        self.json_schema, self.example = self.wire.json_schema, self.wire.example

    def read(self, body: bytes) -> Any:
        r = self.reader.read(body)
        if r is not None:
            return PredictReading(r.batch, r.missing, r.unseen, {})
        c = self.wire.parse(body)
        b = self.encoder.encode(c.values)
        names = [f.spec.name for f in self.encoder.fields]
        m, u = ({names[i]: n for i, n in sorted(x.items())} for x in self.encoder.count_special(b))
        return PredictReading(b, m, u, c.unknown_fields)


class RankWire:
    def __init__(self, schema: Any, encoder: Any, max_rows: int, pause: Any) -> None:
        self.wire = Old(schema, max_rows)
        self.sides = encoder.side("context"), encoder.side("candidate")
        self.json_schema, self.example, self.parse_catalog = (
            self.wire.json_schema,
            self.wire.example,
            self.wire.parse_catalog,
        )
        self.candidate_columns = self.wire.candidate_columns

    def read(self, body: bytes) -> Any:
        r = self.wire.parse(body)
        c = self.sides[0].encode(r.context) if r.context else None
        k = self.sides[1].encode(r.candidates) if r.candidates is not None else None
        return RankReading(c, k, r.candidate_ids, r.top_k, {}, {}, r.unknown_fields)
