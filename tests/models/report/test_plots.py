import numpy as np

from models.report.plots import interval_dot
from models.report.ranking_plots import plot_lift, plot_precision_recall, plot_roc


def test_the_shape_of_a_dot_shows_whether_the_interval_covers_one() -> None:
    assert "<circle" in interval_dot(0.9, 1.0, 1.1, 2.0)
    assert "l5 5-5 5-5-5z" in interval_dot(1.1, 1.2, 1.3, 2.0)
    assert "l5 5 -5 5z" in interval_dot(0.9, float("inf"), float("inf"), 2.0)
    assert "l-5 5 5 5z" in interval_dot(0.0, 0.1, 0.2, 2.0)


def test_ranking_is_drawn_without_clicks_and_with_one_score() -> None:
    labels, scores = np.zeros(5), np.full(5, 0.1)
    for plot in (plot_roc, plot_precision_recall, plot_lift):
        assert plot(labels, [("DeepFM", scores)]).startswith('<svg class="plot" role="img"')
        assert "logistic" in plot(np.array([0.0, 1.0]), [("DeepFM", np.array([0.2, 0.7])), ("logistic", scores[:2])])
