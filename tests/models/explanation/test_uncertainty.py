"""The variance of a logit against autograd and inverted matrices, and what moves it."""

from pathlib import Path

import numpy as np
import torch

from models.artifact.artifact import Artifact, load_artifact
from models.artifact.golden import columns_of
from models.explanation.explainer import Explainer
from models.explanation.uncertainty import PRIOR_SHARE, TEMPERING, Gradients, Uncertainty
from models.features.encoder import EncodedBatch
from models.features.field_encoder import Value
from models.network.deepfm import DeepFMHead
from models.network.predictor import pool
from tests.making import make_artifact


def golden(artifact: Artifact) -> EncodedBatch:
    return artifact.encoder.encode(columns_of(artifact.schema, artifact.golden.rows))


def gradients_of(artifact: Artifact, batch: EncodedBatch) -> np.ndarray:
    rows = artifact.table.take(batch.ids, axis=0)
    gradients = Gradients(artifact.manifest.model, len(artifact.encoder.fields), artifact.head)
    return gradients.of(pool(batch, rows).fields)


def test_gradients_are_those_of_autograd(artifact: Artifact) -> None:
    batch = golden(artifact)
    fields = pool(batch, artifact.table.take(batch.ids, axis=0)).fields
    head = DeepFMHead(artifact.manifest.model, len(artifact.encoder.fields)).double()
    head.load_state_dict({name: torch.tensor(array) for name, array in artifact.head.items()})
    vectors = torch.from_numpy(fields).double().view(len(batch), len(artifact.encoder.fields), -1).requires_grad_()
    head(vectors).sum().backward()
    assert vectors.grad is not None
    np.testing.assert_allclose(gradients_of(artifact, batch), vectors.grad.numpy(), atol=1e-12)


def test_a_variance_is_the_sum_of_quadratic_forms_of_inverted_precisions(artifact: Artifact) -> None:
    assert artifact.evidence is not None
    batch, encoder = golden(artifact), artifact.encoder
    found = gradients_of(artifact, batch)
    variances = Uncertainty(encoder, artifact.counts, artifact.evidence).variances(batch, found)
    prior = np.diag([1 / 0.1] * 4 + [1 / 0.3])
    for b in (0, 1, 40, 63):
        total = 0.0
        for f, field in enumerate(encoder.fields):
            block = encoder.block_starts.tolist().index(field.start)
            inverse = np.linalg.inv(artifact.evidence["basis"][block].astype(np.float64))
            told = inverse @ np.diag(artifact.evidence["information"][block]) @ inverse.T  # G, of T G Tᵀ = diag
            np.testing.assert_allclose(inverse @ inverse.T, prior, rtol=1e-4, atol=1e-4)
            bag = range(batch.offsets[b * 5 + f], batch.offsets[b * 5 + f + 1])
            for row, weight in zip(batch.ids[bag], batch.weights[bag], strict=True):
                count = 0 if row == encoder.oov_rows[f] else artifact.counts[row]
                j = found[b, f] * weight
                total += j @ np.linalg.inv(prior + TEMPERING * count * told) @ j
        assert abs(variances[b] - PRIOR_SHARE * total) <= 1e-4 * total


def test_an_interval_holds_its_probability_and_is_wider_where_less_was_seen(artifact: Artifact) -> None:
    explainer = Explainer(artifact)
    user = artifact.encoder.vocabularies["user_id"].tokens()
    rows: list[dict[str, Value]] = [
        {"user_id": int(u), "ad_id": "ad1", "price": 2.0} for u in (user[0], user[-1], "-1")
    ]
    often, seldom, never = explainer.explain(artifact.encoder.encode(columns_of(artifact.schema, rows)))
    assert often["impressions"][0] > seldom["impressions"][0]
    for e in explainer.explain(golden(artifact)):
        low, high = e["interval"]
        assert 0 < low < e["probability"] < high < 1
        assert e["standard_error"] > 0
    errors = [
        (e["interval"][1] - e["interval"][0]) / (e["probability"] * (1 - e["probability"])) for e in (often, seldom)
    ]
    assert errors[0] < errors[1]
    assert never["unseen"] == ["user_id"]


def test_an_artifact_of_an_earlier_version_loads_and_says_that_it_has_no_standard_error(tmp_path: Path) -> None:
    directory = make_artifact(tmp_path, evidence=False)
    artifact = load_artifact(directory)
    assert artifact.evidence is None
    explanations = list(Explainer(artifact).explain(golden(artifact)))
    assert {(e["standard_error"], e["interval"]) for e in explanations} == {(None, None)}
