"""What a log's columns mean: label, split and fields. Training reads it from TOML; the artifact holds it as JSON."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import SchemaError
from models.schema.validation_errors import describe_validation_error

Kind = Literal["categorical", "numeric", "sequence"]
Side = Literal["context", "candidate"]
TokenType = Literal["integer", "boolean", "string"]
Derived = Literal["hour", "weekday"]
"""What can be derived from the moment of an impression: the hour of the day (0 to 23) or the day of the week (Monday is 0)."""
Pooling = Literal["mean", "sqrtn"]
"""What the sum of the table rows of a sequence of n tokens is divided by: n (``mean``) or √n (``sqrtn``)."""
DEFAULT_POOLING: Pooling = "sqrtn"
"""Of the sequences of a new model."""
NAME_PATTERN = re.compile(r'^[^"\\\x00-\x1f]+$')
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=NAME_PATTERN.pattern)]
"""Name of a column, without the characters that JSON can write in more than one way."""


class Strict(BaseModel):
    """A frozen model in which an unknown key is an error, so that a misspelt option is not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FieldSpec(Strict):
    """One input of the model.

    A ``categorical`` value is one token. A ``sequence`` is a list of tokens, oldest first, of which the last ``max_length``
    are pooled: the sum of their table rows, divided as ``pooling`` says, takes the place of one row. A ``numeric`` value is
    put into one of ``bins`` quantile bins of the training rows.
    """

    name: Name
    """The column's name in the log, and the field's in requests."""
    kind: Kind
    """What the values are; see above."""
    side: Side = "context"
    """Whose value it is: of the user, the page and the moment (``context``), or of the ad (``candidate``); ``/rank`` scores
    one context with many candidates."""
    dtype: TokenType | None = None
    """Type of the tokens in a request. Not given: the type that they have in the log."""
    derived: Derived | None = None
    """Take the value from the time of the split, in UTC; a request carries the time, or the value itself."""
    min_count: Annotated[int, Field(ge=1)] = 2
    """Tokens seen less often than this in the training rows share the out-of-vocabulary row."""
    buckets: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """Number of rows that tokens are hashed into, instead of a vocabulary."""
    vocabulary: str | None = None
    """Name of the field whose tokens and embeddings this field shares; its first-order weights are its own."""
    max_length: Annotated[int, Field(ge=1, le=1_000)] = 50
    """The last tokens of a sequence that count."""
    pooling: Pooling | None = None
    """How the rows of a sequence of n tokens are added: divided by n (``mean``) or √n (``sqrtn``). Not given: ``sqrtn``, or in a
    warm start what the artifact has."""
    bins: Annotated[int, Field(ge=2, le=1_000)] = 20
    """Number of quantile bins of a number."""

    @model_validator(mode="after")
    def _options_fit_the_kind(self) -> Self:
        changed = {name for name, info in type(self).model_fields.items() if getattr(self, name) != info.default}
        not_for_kind = {
            "categorical": {"max_length", "pooling", "bins"},
            "sequence": {"bins", "derived"},
            "numeric": {"dtype", "derived", "min_count", "buckets", "vocabulary", "max_length", "pooling"},
        }
        if misplaced := changed & not_for_kind[self.kind]:
            raise ValueError(f"field {self.name!r}: {sorted(misplaced)[0]!r} does not apply to kind {self.kind!r}")
        if self.vocabulary is not None and {"min_count", "buckets"} & changed:
            raise ValueError(
                f"field {self.name!r}: 'min_count' and 'buckets' belong to the field named by 'vocabulary'"
            )
        return self

    @property
    def block(self) -> str:
        """The name of the block of table rows that this field reads."""
        return self.vocabulary or self.name


class Split(Strict):
    """How the rows are divided into training, validation and test part."""

    column: str | None = None
    """Column with the time to sort by. Without it and without ``by_order`` the split is random, by the ``seed`` of training."""
    format: str | None = None
    """How the column writes its times: ``epoch_s``, ``epoch_ms``, ``epoch_us`` or ``epoch_ns``, or a pattern such as
    ``%d.%m.%Y %H:%M``. Not given: found in the log; a column of dates or times and ISO 8601 need none, nor do numbers that only rise.
    Text without an offset is UTC."""
    clock: str | None = None
    """Column with the time of the day, if ``column`` has the day alone."""
    by_order: bool = False
    """Whether the rows of the files are already in order of time."""
    validation_from: int | float | str | None = None
    """The first time of the validation part. Not given: by ``validation_fraction``."""
    test_from: int | float | str | None = None
    """The first time of the test part. With ``validation_from`` alone there is no test part."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the rows, the newest but those of the test part."""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the rows, the newest. 0: the validation part is the last."""

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Self:
        if self.by_order and self.column is not None:
            raise ValueError("split: give either 'column' or 'by_order', not both")
        if self.column is None and (self.format is not None or self.clock is not None):
            raise ValueError("split: 'format' and 'clock' need a 'column'")
        if (self.test_from is not None or self.validation_from is not None) and self.column is None:
            raise ValueError("split: 'validation_from' and 'test_from' need a 'column'")
        if self.test_from is not None and self.validation_from is None:
            raise ValueError("split: 'test_from' needs a 'validation_from'")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("split: the fractions leave no training rows")
        return self


class LogFormat(Strict):
    """How text is read, that of delimited files above all."""

    columns: tuple[str, ...] | None = None
    """Column names, for files without a header line."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Default: a tab for ``.tsv`` and ``.txt``, a comma for ``.csv``."""
    null_values: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(max_length=32)] = ()
    """Further spellings of a null, besides the empty string."""
    list_separator: Annotated[str, Field(min_length=1, max_length=8)] = "|"
    """Separator of the tokens of a sequence that is written as one text; with a comma, ``['a', 'b']`` is read too."""
    decimal_comma: bool = False
    """Whether numbers are written with a comma, as in ``3,14``."""
    quoted: bool = True
    """Whether values that hold the separator are in double quotes; if not, a double quote is a character like any other."""


class FeatureSchema(Strict):
    """A schema file: the label, the fields, and how rows are split."""

    label: Name
    """Column with the clicks."""
    positive: str | None = None
    """The label's value of a click, if it is not 1, ``true`` or +1; every other value is a non-click."""
    impressions: str | None = None
    """Column with the number of times that a row's ad was shown; the label is then the number of clicks. Training takes such a
    row as so many impressions."""
    group: str | None = None
    """Column whose values group rows for GAUC, usually the user."""
    negatives_kept: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the non-clicks that the log holds; the service corrects its probabilities for the down-sampling."""
    segments: tuple[str, ...] = ()
    """Categorical fields for which the report shows calibration by value."""
    log: LogFormat = LogFormat()
    """How text files are read."""
    split: Split = Split()
    """How the rows are divided."""
    fields: Annotated[tuple[FieldSpec, ...], Field(alias="field", min_length=1)]
    """The inputs of the model, one table each."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        by_name = {f.name: f for f in self.fields}
        if len(by_name) != len(self.fields):
            names = [f.name for f in self.fields]
            raise ValueError(f"field {next(n for n in names if names.count(n) > 1)!r} is given twice")
        if self.label in by_name:
            raise ValueError(f"the label {self.label!r} cannot be a field")
        if self.impressions is not None and (self.impressions in by_name or self.positive is not None):
            raise ValueError(
                "impressions: cannot be a field, and the label counts clicks, so 'positive' does not apply"
            )
        for f in self.fields:
            sources = {self.split.column, self.split.clock if f.derived == "hour" else None} & set(by_name)
            if f.derived and (self.split.column is None or sources):
                raise ValueError(f"field {f.name!r}: 'derived' needs a time, the 'column' of [split], that is no field")
        for f in self.fields:
            owner = by_name.get(f.block)
            shared = f.vocabulary is not None
            if owner is None or (shared and (owner.kind == "numeric" or owner.vocabulary is not None)):
                raise ValueError(
                    f"field {f.name!r}: 'vocabulary' must name a field with tokens of its own, got {f.block!r}"
                )
        for name in self.segments:
            if name not in by_name or by_name[name].kind != "categorical":
                raise ValueError(f"segments: {name!r} is not a categorical field")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that training reads, each once, label first."""
        extra = (self.impressions, self.group, self.split.column, self.split.clock)
        own = (f.name for f in self.fields if f.derived is None)
        return tuple(dict.fromkeys([self.label, *(c for c in extra if c), *own]))


class FittedField(Strict):
    """What training fitted for one field; together with `FieldSpec` it defines the encoding completely."""

    dtype: TokenType | None
    boundaries: tuple[float, ...] = ()
    """Of a numeric field: ascending cut points between bins, in the unit of the values."""
    example: int | float | str | tuple[int | str, ...] | None = None
    """A frequent value, for the documentation of the API."""
    pooling: Pooling = "mean"
    """Of a sequence. Absent in artifacts of version 0.1, which had means only."""
    own_rows: bool = False
    """Whether a field that shares another's vocabulary has table rows of its own. Their embeddings are those of the other's
    rows, their first-order weights are not. Absent in artifacts of version 0.1, where all was shared."""


class FittedSchema(Strict):
    """The artifact's ``schema.json``: the schema and what was fitted, one entry per field in the same order."""

    features: FeatureSchema
    fitted: tuple[FittedField, ...]
    num_tokens: Mapping[str, int]
    """Number of rows of each block without MISSING and OOV, by block name, in table order. A block has the name of the field
    that owns the vocabulary, or of the field with rows of its own."""

    @property
    def row_blocks(self) -> tuple[str, ...]:
        """The name of the block of table rows of each field."""
        return tuple(
            f.name if fit.own_rows else f.block for f, fit in zip(self.features.fields, self.fitted, strict=True)
        )

    @model_validator(mode="after")
    def _one_fit_per_field(self) -> Self:
        if len(self.fitted) != len(self.features.fields):
            raise ValueError("'fitted' must have one entry per field")
        if list(self.num_tokens) != list(dict.fromkeys(self.row_blocks)):
            raise ValueError("'num_tokens' must name every block in the order of the fields")
        for spec, fit in zip(self.features.fields, self.fitted, strict=True):
            expected = {"numeric": len(fit.boundaries) + 1}.get(spec.kind, spec.buckets)
            if expected is not None and self.num_tokens[spec.block] != expected:
                raise ValueError(f"'num_tokens' of {spec.name!r} does not fit its boundaries or buckets")
            is_numeric, is_sequence = spec.kind == "numeric", spec.kind == "sequence"
            if (
                any(not a < b for a, b in pairwise(fit.boundaries))
                or is_numeric != (fit.dtype is None)
                or (fit.pooling != "mean" and not is_sequence)
                or spec.pooling not in (None, fit.pooling)
                or (
                    fit.own_rows
                    and (spec.vocabulary is None or self.num_tokens[spec.name] != self.num_tokens[spec.block])
                )
            ):
                raise ValueError(f"'fitted' of {spec.name!r} does not fit the field")
        if any(n < 0 for n in self.num_tokens.values()):
            raise ValueError("'num_tokens' must not be negative")
        return self


def load_schema(path: Path) -> FeatureSchema:
    """Read and validate a schema file.

    Raises:
        SchemaError: the file is missing, is not TOML, or does not describe a schema.
    """
    document: object = None
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return FeatureSchema.model_validate(document)
    except OSError as error:
        raise SchemaError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path}: is not TOML: {error}") from error
    except ValidationError as error:
        raise SchemaError(f"{path}: {describe_validation_error(error, document)}") from error
