import numpy as np

from models.data.chunk_encoder import encode_frame
from models.evaluation.cold_start import cold_starts
from models.evaluation.metrics import evaluate
from tests.making import SCHEMA, fit_encoder, make_log


def test_unseen_rows_are_those_whose_user_or_item_is_not_in_the_vocabulary() -> None:
    log = make_log()
    encoder = fit_encoder(log, SCHEMA, np.arange(200))
    rows = encode_frame(encoder, log)
    labels, p = log["click"].to_numpy(), np.random.default_rng(0).random(log.height)
    found = cold_starts(encoder, rows, labels, p)
    for name, field in (("user", "user_id"), ("item", "ad_id")):
        known = set(encoder.vocabularies[field].tokens())
        unseen = np.array([token not in known for token in log[field].to_list()])
        assert 0 < unseen.sum() < len(unseen)
        assert found[f"unseen {name}"] == evaluate(labels[unseen], p[unseen])
        assert found[f"seen {name}"] == evaluate(labels[~unseen], p[~unseen])


def test_a_set_without_rows_is_left_out() -> None:
    log = make_log()
    encoder = fit_encoder(log, SCHEMA, np.arange(log.height))
    rows = encode_frame(encoder, log)
    seen = np.array([u in set(encoder.vocabularies["user_id"].tokens()) for u in log["user_id"].to_list()])
    at = np.flatnonzero(seen)
    labels = log["click"].to_numpy()[at]
    found = cold_starts(encoder, rows.select(at, rows.row_starts()), labels, np.full(len(at), 0.5))
    assert "seen user" in found
    assert "unseen user" not in found
