"""Explanations of a small artifact's golden rows, awkward values among them."""

import json

import numpy as np
import pytest

from models.artifact.artifact import Artifact
from models.artifact.golden import columns_of
from models.explanation.explainer import Explainer
from models.features.field_encoder import Value


def test_the_parts_sum_to_the_served_logit_and_calibration_to_the_probability(artifact: Artifact) -> None:
    explainer = Explainer(artifact)
    batch = artifact.encoder.encode(columns_of(artifact.schema, artifact.golden.rows))
    explanations = list(explainer.explain(batch))
    assert [e["logit"] for e in explanations] == artifact.predictor.score_table(batch, artifact.table).tolist()
    assert [e["probability"] for e in explanations] == pytest.approx(artifact.golden.probabilities, abs=1e-6)
    for e in explanations:
        total = e["bias"] + sum(e["first_order"]) + sum(e["second_order"]) + sum(e["deep"])
        assert abs(e["residual"]) <= 1e-5
        assert total + e["residual"] == pytest.approx(e["logit"], abs=1e-12)
        assert 1 / (1 + np.exp(-e["logit"] - e["calibration"])) == pytest.approx(e["probability"], rel=1e-9)
    header = explainer.header()
    assert header["fields"] == artifact.encoder.names
    assert header["pairs"][:2] == [("user_id", "site"), ("user_id", "clicked_ads")]
    assert len(header["pairs"]) == len(explanations[0]["second_order"])
    assert json.loads(json.dumps(header["calibration"])) == {"method": "platt", "slope": 0.8, "intercept": -1.0}


def test_evidence_counts_the_impressions_behind_each_value(artifact: Artifact) -> None:
    known: dict[str, Value] = {
        "user_id": 7,
        "site": None,
        "clicked_ads": ["ad1", "?", "ad2"],
        "ad_id": "nobody yet",
        "price": 1.5,
    }
    (e,) = Explainer(artifact).explain(artifact.encoder.encode(columns_of(artifact.schema, [known])))
    assert (e["missing"], e["unseen"]) == (["site"], ["clicked_ads", "ad_id"])
    user, site, clicked, ad, price = e["impressions"]
    counts, encoder = artifact.counts, artifact.encoder
    assert [user] == counts[encoder.fields[0].find_all(["7"])].tolist()
    assert site == counts[encoder.missing_rows[1]]
    assert clicked == counts[encoder.fields[2].find_all(["ad1", "?", "ad2"])].tolist()
    assert ad == counts[encoder.oov_rows[3]]
    assert price > 0
