from bisect import bisect_right

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from models.data.chunk_encoder import encode_numbers
from models.data.fitting import _boundaries
from models.features.field_encoder import FieldEncoder
from models.features.vocabulary import MISSING, NUM_SPECIAL
from models.schema.feature_schema import FeatureSchema, FieldSpec, FittedField, Pooling
from tests.making import SCHEMA, fit_encoder, make_log


@pytest.mark.parametrize(("choice", "fitted"), [(None, "sqrtn"), ("sqrtn", "sqrtn"), ("mean", "mean")])
def test_a_sequence_is_pooled_as_the_schema_says_or_else_by_the_root(choice: Pooling | None, fitted: Pooling) -> None:
    document = SCHEMA.model_dump(by_alias=True)
    document["field"][2]["pooling"] = choice
    encoder = fit_encoder(make_log(), FeatureSchema.model_validate(document), np.arange(500))
    assert [field.pooling for field in encoder.schema.fitted] == ["mean", "mean", fitted, "mean", "mean"]


floats = st.floats(allow_infinity=True, allow_nan=True) | st.integers(-3, 3).map(float)


@given(arrays(np.float64, st.integers(1, 60), elements=floats), st.integers(2, 30))
def test_bins_end_at_the_next_higher_quantiles(x: NDArray[np.float64], bins: int) -> None:
    finite = x[np.isfinite(x)]
    cuts = np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1)[1:-1], method="higher")) if len(finite) else finite
    assert _boundaries(x, bins) == tuple(c for c in cuts.tolist() if c > finite.min())


@given(arrays(np.float64, st.integers(0, 150), elements=floats), st.integers(0, 80))
def test_numbers_of_a_chunk_get_the_bins_that_the_field_encoder_gives(
    numbers: NDArray[np.float64], num_boundaries: int
) -> None:
    boundaries = tuple(np.unique(np.linspace(-4, 4, num_boundaries)).tolist())
    spec = FieldSpec(name="x", kind="numeric", side="context")
    field = FieldEncoder(spec, FittedField(dtype=None, boundaries=boundaries), 100, None)
    expected = [100 + (MISSING if x != x else NUM_SPECIAL + bisect_right(boundaries, x)) for x in numbers.tolist()]
    assert encode_numbers(field, numbers).tolist() == field.encode_numbers(numbers).tolist() == expected
