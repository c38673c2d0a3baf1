"""The fixed text and the look of the report page and of the model card; `models.report.rendering` fills them.

Every helper escapes what it is given, unless that is `Html` already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from string import Template
from typing import NewType

Html = NewType("Html", str)


def html(text: str) -> Html:
    """Escape text.

    >>> html("<b> & 'c'")
    '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    return Html(escape(text))


def table(header: Sequence[str], rows: Iterable[Sequence[Html]], css_class: str = "", num_text: int = 1) -> Html:
    """Lay out rows; all but the first ``num_text`` columns are numbers, aligned to the right."""
    kinds = [' class="text"' if i < num_text else "" for i in range(len(header))]
    head = "".join(f"<th{kind}>{escape(h)}</th>" for h, kind in zip(header, kinds, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return Html(
        f'<div class="scroll"><table class="{css_class}"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Lay out names and values as a definition list."""
    return Html("<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs) + "</dl>")


def bar(share: float | None) -> Html:
    """Write a share as a percentage with a bar of that length; ``None`` is a dash."""
    if not share:
        return Html(f'<span class="none">{"–" if share is None else "0.00"}</span>')
    text = f"{100 * share:.2f}" if share >= 0.0001 else "&lt;0.01"
    return Html(
        f'<span class="bar"><i style="width:{100 * min(share, 1):.1f}%"></i></span><span class="share">{text}</span>'
    )


def code(text: str) -> str:
    """Quote text as Markdown code that no content can leave, not even in a table.

    >>> code("a`b|c")
    "`a'b/c`"
    """
    return "`" + re.sub(r"\s+", " ", text).replace("`", "'").replace("|", "/") + "`"


STYLE = """
:root { --ink: #1f252c; --soft: #5d6874; --line: #dfe3e8; --wash: #f6f8fa; --model: #0072b2; --warn: #d55e00; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "Noto Sans", "Liberation Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 28px 56px; }
h1 { font-size: 27px; line-height: 1.25; margin: 2px 0 6px; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 44px 0 6px; letter-spacing: -.005em; }
h3 { font-size: 15px; margin: 0 0 2px; overflow-wrap: anywhere; } p { margin: 0 0 10px; max-width: 76ch; }
.eyebrow { color: var(--soft); font-size: 13px; letter-spacing: .06em; text-transform: uppercase; margin: 0; }
.soft, figcaption { color: var(--soft); font-size: 13.5px; }
.verdict { margin: 20px 0 22px; padding: 13px 18px; max-width: none; font-size: 17px; border-left: 4px solid var(--model);
  background: var(--wash); }
.verdict.warn { border-color: var(--warn); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile { border: 1px solid var(--line); border-radius: 6px; padding: 11px 14px 10px; }
.tile span { display: block; color: var(--soft); font-size: 13px; }
.tile b { display: block; font-size: 25px; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 30px 36px;
  margin-top: 16px; align-items: start; }
.grid > * { min-width: 0; } figure { margin: 0; break-inside: avoid; }
.plot { display: block; width: 100%; height: auto; margin-top: 6px; }
.plot text { font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } .scroll + p { margin-top: 10px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; margin-top: 8px; }
th { text-align: right; font-weight: 600; font-size: 12.5px; color: var(--soft); vertical-align: bottom; line-height: 1.3; }
th, td { padding: 5px 0 5px 14px; border-bottom: 1px solid var(--line); } td { text-align: right; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
th.text, td.text { text-align: left; }
td .name { display: inline-block; max-width: 24ch; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  vertical-align: bottom; }
.segments td .name { max-width: 15ch; }
.segments { max-width: 580px; } .segments th { white-space: nowrap; }
.segments td + td, .segments th + th { padding-left: 12px; }
.segments td:last-child, .segments th:last-child { width: 38%; padding-left: 18px; }
.importance { max-width: 640px; } .importance td:last-child { width: 45%; } .importance .bar { width: 100%; }
.none { color: var(--soft); } .dot { display: block; width: 100%; height: 18px; }
.axis { display: flex; font-weight: 400; } .axis span { flex: 1; text-align: center; }
.axis span:first-child { text-align: left; } .axis span:last-child { text-align: right; }
.bar { display: inline-block; width: 44px; height: 8px; background: #edf0f3; vertical-align: 1px; }
.bar i { display: block; height: 8px; background: var(--model); }
.share { display: inline-block; width: 6ch; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 8px 0 0; font-size: 14px;
  font-variant-numeric: tabular-nums; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 560px) { main { padding: 24px 16px 40px; } dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 6px; } }
@media print {
  @page { margin: 14mm; }
  body { font-size: 12px; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  .grid { grid-template-columns: 1fr 1fr; gap: 18px 22px; }
  table, dl { font-size: 9.5px; }
  th { font-size: 9px; } th, td { padding: 3px 0 3px 8px; }
  .scroll { overflow: visible; } .bar { width: 22px; }
  h2 { break-after: avoid; }
  tr, .tile, .verdict { break-inside: avoid; }
}
"""

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$model_version – training report</title>
<style>$style</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">Training report</p>
<h1>$model_version</h1>
<p class="soft">$summary</p>
<p class="verdict $verdict_class">$verdict</p>
<div class="tiles">$tiles</div>
</header>

<section>
<h2>Metrics</h2>
$metrics
<p class="soft">Log loss in nats per impression. NE: log loss ÷ entropy of the base rate, below 1 is better than a
constant. AUC: how often a click is ranked above a non-click. GAUC: the same within each group, weighted by impressions.
Σp/Σy: clicks promised for each click that came. ECE: mean distance between promised and found click rate over 20 bins.
Bold: best of
its part, the constant apart. ± and intervals are 95&nbsp;%; those on the tiles by bootstrap, groups drawn whole.</p>
</section>

$champion
<section>
<h2>Learning and ranking</h2>
<div class="grid">
<figure><h3>Learning curve</h3>$learning
<figcaption>Training: mean during the epoch. Validation: after it, before calibration.</figcaption></figure>
<figure><h3>ROC, $part</h3>$roc
<figcaption>One point per threshold on the score.</figcaption></figure>
</div>
</section>

<section>
<h2>Calibration</h2>
<p class="soft">$calibration</p>
<div class="grid">
<figure><h3>Promised and found click rate, $part</h3>$reliability
<figcaption>Each dot is a twentieth of the rows. On the dotted line a promise is kept. Without a click, it
stands on the lower edge.</figcaption></figure>
<figure><h3>Predictions by label, $part</h3>$scores
<figcaption>The further apart the two shapes, the better the model tells clicks from non-clicks.</figcaption></figure>
</div>
</section>
$segments
$cold_starts
$importance
<section>
<h2>Fields</h2>
<p class="soft">Missing: share of training values that were null or empty. Unseen: share of the part's values that
training did not keep, which all share the field's trained out-of-vocabulary row. A field with many unseen values
cannot help on new traffic.</p>
$fields
</section>

<section>
<h2>Training facts</h2>
<div class="grid">
<div><h3>Data</h3>$data</div>
<div><h3>Epochs</h3>$epochs</div>
<div><h3>Configuration</h3>$config</div>
<div><h3>Environment</h3>$environment</div>
</div>
</section>
</main>
</body>
</html>
""")

CARD = Template("""# Model card: $model_version

$verdict

## Intended use

Predicts the probability that an impression is clicked (label $label), to rank candidates and to compute bids as
probability × value of a click. It was made for traffic like that of its log: the same product, placements and audience.

## Data

$data

## Metrics

$metrics

Log loss in nats per impression; NE is log loss ÷ entropy of the base rate; Σp/Σy is clicks promised for each that came.

## Calibration

$calibration

## Limits: what it must not be used for

* Not for decisions about people, such as credit, employment, housing, insurance, health or prices offered to a person.
* Not as a probability of anything but a click: not of a purchase, of interest, or of satisfaction.
* Not on other products, placements or countries than those of the log without measuring calibration there first.
* Not long after its data window: values it has not seen grow in number, and nothing here says how it does by then.
* Not for a cause: it says what is clicked, not what an ad adds. The log shows only what an earlier system chose to show.

## Ethical notes

Clicks reward what catches the eye; ranked by them alone, sensational content gains. Fields about users may stand in for
protected traits: see the calibration by segment in `report.html`, and test for unequal treatment before use. User ids
and histories in the vocabularies are personal data: whoever holds the artifact holds them, and deletion means training anew.

## How to reproduce

```
$command
```

$environment
""")
