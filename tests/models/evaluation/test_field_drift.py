import numpy as np
import polars as pl
import pytest

from models.data.chunk_encoder import encode_frame
from models.evaluation.field_drift import field_drifts, stability_index
from models.features.encoder import FeatureEncoder
from tests.making import SCHEMA, fit_encoder, make_log


@pytest.fixture(scope="module")
def encoder() -> FeatureEncoder:
    log = make_log()
    return fit_encoder(log, SCHEMA, np.arange(log.height))


def drifts(encoder: FeatureEncoder, later: pl.DataFrame) -> dict[str, float]:
    before, after = (encode_frame(encoder, frame) for frame in (make_log(), later))
    return dict(zip(encoder.names, field_drifts(encoder, before, after), strict=True))


def test_rows_of_the_same_log_have_not_moved(encoder: FeatureEncoder) -> None:
    assert max(drifts(encoder, make_log()).values()) == 0
    assert max(drifts(encoder, make_log()[::2]).values()) < 0.1


def test_only_the_fields_that_moved_are_said_to_have_moved(encoder: FeatureEncoder) -> None:
    later = make_log().with_columns(
        pl.lit("nobody yet").alias("ad_id"),
        pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.col("site")).alias("site"),
        pl.col("price") * 3,
    )
    found = drifts(encoder, later)
    assert {name for name, drift in found.items() if drift > 0.25} == {"ad_id", "site", "price"}


def test_chance_alone_is_about_zero() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(22))
    found = [stability_index(rng.multinomial(2_000, p) * 1.0, rng.multinomial(300, p) * 1.0) for _ in range(200)]
    assert np.mean(found) < 0.03
    assert stability_index(np.array([10.0, 0.0]), np.array([0.0, 10.0])) > 1
