"""Fields that a request need not have, because they derive from its moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from models.features.field_encoder import FieldEncoder, Value
from models.features.moments import DERIVE, parse_clock, parse_moment
from models.features.vocabulary import MISSING
from models.schema.feature_schema import Split

KEPT = 4_096
"""Moments whose rows are kept; those of a second are asked for again and again."""


class Derivation:
    """The derived fields among some fields.

    Args:
        fields: some of the model's.
        split: of the schema, which says where the moment is and how it is written.
    """

    def __init__(self, fields: Sequence[FieldEncoder], split: Split) -> None:
        self._split = split
        self._derived = [(f, DERIVE[f.spec.derived]) for f in fields if f.spec.derived]
        self.places: tuple[int, ...] = tuple(i for i, f in enumerate(fields) if f.spec.derived)
        """Where the derived fields are among the fields."""
        own = {f.spec.name for f in fields}
        columns = (split.column, split.clock)
        self.sources: tuple[str, ...] = tuple(c for c in columns if c and c not in own) if self.places else ()
        """The names of what a request says about its moment: the day or the whole moment, and the time of the day."""
        self.rows_of = lru_cache(KEPT)(self._rows_of)

    def fill(self, row: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return an impression with the derived fields that it lacks.

        Raises:
            ValueError: what it says of its moment is no time.
        """
        moment = self._moment([row.get(name) for name in self.sources])
        if moment is None:
            return row
        found = {field.spec.name: derive(moment) for field, derive in self._derived}
        return {**row, **{name: value for name, value in found.items() if row.get(name) in (None, "")}}

    def _rows_of(self, *texts: str | None) -> tuple[int, ...] | None:
        """Return the table row of each derived field, given the values of `sources`; ``None`` if one of these is no time."""
        try:
            moment = self._moment(texts)
        except ValueError:
            return None
        if moment is None:
            return tuple(field.start + MISSING for field, _ in self._derived)
        return tuple(int(field.find_all([derive(moment)])[0]) for field, derive in self._derived)

    def _moment(self, values: Sequence[Value]) -> int | None:
        """Return the moment in microseconds since 1970; ``None`` unless every source has a value."""
        moment, is_whole = 0, bool(self.sources)
        for name, value in zip(self.sources, values, strict=True):
            if value is None or value == "":
                is_whole = False
                continue
            assert isinstance(value, str | int | float), "the wire and the log reader checked"
            part = parse_clock(value) if name == self._split.clock else parse_moment(value, self._split.format)
            if part is None:
                raise ValueError(f"{name} is no time")
            moment += part
        return moment if is_whole else None
