import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from models.artifact.manifest import DataFacts
from models.data.champion import Champion
from models.errors import ModelsError
from models.evaluation.importance import Importance
from models.evaluation.metrics import calibration_ratio, evaluate, log_loss
from models.report.conclusions import segment_ratios, verdict
from models.report.rendering import render_model_card, render_report
from models.report.report_data import FieldFacts, ReportData, Scored
from models.train import main
from models.training.train_config import TrainConfig
from models.training.trainer import Epoch

EVIL = "<img src=x onerror=alert(1)>"


def make_scored(name: str, base: float = 0.4, n: int = 3_000, seed: int = 0) -> Scored:
    rng = np.random.default_rng(seed)
    truth = rng.beta(4 * base, 4 * (1 - base), n)
    labels = (rng.random(n) < truth).astype(np.float32)
    return Scored(
        name=name,
        labels=labels,
        probabilities=np.clip(truth, 1e-6, 1),
        raw_probabilities=truth**0.8,
        constant=base,
        baseline_probabilities=0.5 * truth + 0.5 * base,
        groups=rng.integers(0, 300, n),
        segments={"site": [f"site {i}" for i in rng.zipf(1.5, n) % 40], EVIL: ["$x^", EVIL, "“点击”"] * (n // 3)},
    )


def make_data(base: float = 0.4) -> ReportData:
    losses = [(0.62, 0.61), (0.60, 0.5912), (0.58, 0.5934)]
    epochs = [
        Epoch(epoch=i, train_log_loss=t, validation_log_loss=v, rows_per_s=12_345.6, seconds=3.21)
        for i, (t, v) in enumerate(losses, 1)
    ]
    rows = {"train": 12_345, "validation": 3_000, "test": 3_000}
    window = {"train": ("20220425", "20220502"), "validation": ("20220503", "20220503")}
    return ReportData(
        model_version="20260101T000000-abcdef01",
        created="2026-01-01T00:00:00+00:00",
        label="is_click",
        options=["--data", f"logs/{EVIL}`\n.csv", "--schema", "my schema.toml", "--out", "artifacts"],
        data=DataFacts(files=(f"log{EVIL}`.csv",), rows=rows, window=window, digest="0" * 64),
        validation=make_scored("validation", base, seed=1),
        test=make_scored("test", base, seed=2),
        history=epochs,
        best_epoch=2,
        fields=[
            FieldFacts(EVIL, "categorical", "context", "tokens seen twice", 876, 878, 0.0123, {"validation": 0.2, "test": 0.3456}, 0.9),
            FieldFacts("price", "numeric", "candidate", "20 bins", None, 22, 0.0, {}),
        ],
        calibration="Platt scaling <fitted> on the validation part.",
        config=TrainConfig(seed=11).model_dump(mode="json"),
        environment={"torch": "2.13", "peak memory": "612 MiB"},
    )  # fmt: skip


class Page(HTMLParser):
    """Collects tags with attributes, and checks that they nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def data() -> ReportData:
    return make_data()


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render_report(data)


def test_the_page_shows_the_figures(data: ReportData, page: str) -> None:
    text = Page(page).text
    assert data.test is not None
    for scored in data.parts:
        assert f"{log_loss(scored.labels, scored.probabilities):.4f}" in text
        assert scored.baseline_probabilities is not None
        assert f"{log_loss(scored.labels, scored.baseline_probabilities):.4f}" in text
        assert f"{calibration_ratio(scored.labels, scored.raw_probabilities):.4f}" in text
    expected = [
        "20260101T000000-abcdef01",
        "2022-04-25 to 2022-05-02",
        "12,345",
        "876",
        "34.56",
        "1.23",
        "0.5912",
        "612 MiB",
    ]
    for word in [*expected, verdict(data.test)[0], "2 (kept)", "Platt scaling <fitted>"]:
        assert word in text, word


def test_the_page_has_no_scripts_and_no_external_references(page: str) -> None:
    parsed = Page(page)
    assert not parsed.open
    assert {tag for tag, _ in parsed.tags}.isdisjoint(
        {"script", "img", "link", "iframe", "object", "foreignobject", "base"}
    )
    for tag, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#"), attributes
    assert not re.search(r"@import|url\((?!#)|https?:|javascript:", page)
    assert EVIL in parsed.text
    ids = [a["id"] for tag, a in parsed.tags if "id" in a and tag != "path"]
    assert len(set(ids)) == len(ids)


def test_the_same_data_gives_the_same_bytes_with_any_matplotlib_settings(page: str) -> None:
    with mpl.rc_context({"lines.linewidth": 9, "axes.grid": False, "svg.hashsalt": None}):
        assert render_report(make_data()) == page


def test_the_tiles_show_intervals(data: ReportData, page: str) -> None:
    low, high = data.parts[-1].intervals["auc"]
    assert low < (data.parts[-1].metrics.auc or 0) < high
    assert f"{low:.4f} to {high:.4f}" in Page(page).text


def test_the_interval_of_ece_is_that_of_true_probabilities(data: ReportData, page: str) -> None:
    assert "ece" not in data.parts[-1].intervals
    mean, low, high = data.parts[-1].ece_by_chance
    text = Page(page).text
    assert f"if calibrated {low:.4f} to {high:.4f}" in text
    assert f"{mean:.4f} on average, {low:.4f} to {high:.4f}" in " ".join(text.split())


def test_colours_are_variables_of_the_page_which_has_a_dark_mode(page: str) -> None:
    style, body = page.split("</style>", 1)
    assert "prefers-color-scheme: dark" in style
    assert set(re.findall(r"var\((--[a-z]+)\)", body)) >= {"--model", "--warn", "--plain", "--pale", "--ink", "--grid"}
    defined = set(re.findall(r"(--[a-z]+):", style.split("@media", 1)[0]))
    assert set(re.findall(r"var\((--[a-z]+)\)", page)) <= defined
    dark = style.split("prefers-color-scheme: dark", 1)[1].split("}", 1)[0]
    assert set(re.findall(r"(--[a-z]+):", dark)) == defined
    assert not re.findall(r"#[0-9a-f]{6}", body)


def test_the_rival_is_said_to_be_treated_as_the_model(data: ReportData, page: str) -> None:
    assert "learnt again with the validation rows as the model was" in " ".join(Page(page).text.split())
    plain = render_report(replace(data, config={**data.config, "refit": False}))
    assert "calibrated on the validation part as the model is." in " ".join(Page(plain).text.split())


def test_precision_recall_lift_and_drift_are_shown(data: ReportData, page: str) -> None:
    text = Page(page).text
    assert all(heading in text for heading in ("Precision and recall, test", "Lift, test", "drift, test"))
    assert page.count('class="plot"') == 6
    assert page.count('<td class="moved">') == 1
    moved = replace(data.fields[1], drift=0.31)
    assert '<td class="moved">0.31</td>' in render_report(replace(data, fields=[moved]))


def test_without_a_test_part_the_headline_is_about_validation(data: ReportData) -> None:
    rows = {"train": 12_345, "validation": 3_000, "test": 0}
    alone = replace(data, test=None, data=data.data.model_copy(update={"rows": rows}))
    text = Page(render_report(alone)).text
    assert "On validation the model" in text
    assert "ROC, validation" in text
    assert not re.search(r"\btest\b", text)
    assert "| test |" not in render_model_card(alone)


def test_a_report_with_the_least_data_is_rendered() -> None:
    y, p = np.array([0.0, 0.0]), np.array([0.1, 0.1])
    data = replace(make_data(), validation=Scored("validation", y, p, p, 0.1), test=None, fields=[], environment={})
    data = replace(data, history=data.history[1:2], data=data.data.model_copy(update={"window": {}}))
    text = Page(render_report(data)).text
    assert "on a par with the constant" in text
    assert "∞" in text
    assert "Calibration by segment" not in text
    assert render_model_card(data)


def test_rare_clicks_are_drawn_on_logarithmic_axes() -> None:
    page = render_report(make_data(base=0.02))
    assert ">0.5<" in page
    assert not Page(page).open


def test_the_verdict_beats_loses_or_is_on_a_par() -> None:
    good = make_scored("test")
    assert good.baseline_probabilities is not None
    text, is_good = verdict(good)
    assert text.startswith("On test the model beats the logistic regression by ")
    assert is_good
    bad = replace(good, probabilities=good.baseline_probabilities, baseline_probabilities=good.probabilities)
    assert "loses to the logistic regression" in verdict(bad)[0]
    assert not verdict(bad)[1]
    equal = replace(good, baseline_probabilities=good.probabilities)
    assert "on a par" in verdict(equal)[0]
    dear = replace(good, probabilities=np.minimum(good.probabilities * 1.2, 1 - 1e-6))
    assert re.search(r"predicts [12]\d\.\d % too many clicks", verdict(dear)[0])
    assert not verdict(dear)[1]


def test_the_epochs_begin_with_the_first_order_where_training_did(data: ReportData, page: str) -> None:
    assert "first order alone" not in page
    shown = render_report(replace(data, first_order_log_loss=0.4321, best_epoch=0))
    assert "first order alone (kept)" in shown
    assert "0.4321" in shown


def test_clear_importances_are_shown_and_other_fields_are_listed(data: ReportData, page: str) -> None:
    assert "What each field contributes" not in page
    found = [Importance(EVIL, 0.02, 0.005), Importance("price", 0.01, 0.002), Importance("hour", 0.001, 0.002)]
    shown = Page(render_report(replace(data, importance=found, importance_rows=2_345)))
    assert not shown.open
    for text in ("What each field contributes, test", "2,345 impressions", f"{EVIL}0.02000± 0.00500"):
        assert text in shown.text
    assert "Not different from zero: hour." in shown.text


def test_the_comparison_gives_both_values_and_marks_clear_differences() -> None:
    scored = make_scored("test")
    halved = scored.probabilities * 0.5
    compared = replace(scored, champion=Champion("old<1>", "5 train rows", {"test": halved}))
    section = render_report(replace(make_data(), test=compared)).partition("Comparison with")[2]
    old = evaluate(scored.labels, halved)
    low, high = compared.champion_intervals["log_loss"]
    assert f"<td>{old.log_loss:.4f}</td><td><b>{compared.metrics.log_loss - old.log_loss:+.4f}</b></td>" in section
    assert f"<b>{low:+.4f} to {high:+.4f}</b>" in section
    assert high < 0
    assert "<td>+0.0000</td>" in section  # AUC: the order is the same
    assert section.startswith(" old&lt;1&gt;, test")


def test_segments_are_the_twelve_largest_and_the_others() -> None:
    scored = make_scored("test")
    assert scored.segments is not None
    sites = np.array(scored.segments["site"])
    ratios = segment_ratios(scored, scored.segments["site"])
    assert len(ratios) == 13
    assert sum(r.rows for r in ratios) == len(sites)
    assert ratios[-1].value == f"{len(set(sites.tolist())) - 12} others"
    for r in ratios[:-1]:
        here = sites == r.value
        assert r.rows == here.sum()
        assert r.click_rate == pytest.approx(scored.labels[here].mean())
        assert r.ratio == pytest.approx(scored.probabilities[here].sum() / scored.labels[here].sum())
        assert r.low <= r.ratio <= r.high
    assert [r.rows for r in ratios[:-1]] == sorted((r.rows for r in ratios[:-1]), reverse=True)


def test_the_card_holds_metrics_limits_and_a_command_that_parses(
    data: ReportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = render_model_card(data)
    assert data.test is not None
    assert f"| test | DeepFM, calibrated | {data.test.metrics.log_loss:.4f} |" in card
    for heading in ("Intended use", "Data", "Metrics", "Calibration", "Limits", "Ethical notes", "How to reproduce"):
        assert f"## {heading}" in card
    command = card.split("```")[1].strip()
    configs: list[TrainConfig] = []

    def note(*arguments: object) -> None:
        configs.extend(argument for argument in arguments if isinstance(argument, TrainConfig))
        raise ModelsError("enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("models.pipeline.schema_choice.load_schema", lambda path: None)
    monkeypatch.setattr("models.pipeline.log_to_artifact.train", note)
    assert main(shlex.split(command)[3:]) == 2
    assert configs == [TrainConfig(seed=11)]
    outside_code = re.sub(r"```.*?```|`[^`\n]*`", "", card, flags=re.DOTALL)
    assert EVIL not in outside_code
