"""The report as one page that needs no network: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from gptkit.compare import probes, series, tables, trial_curves, tuning, words
from gptkit.compare.honesty import Caution
from gptkit.compare.ink import PALETTE, Plot, css
from gptkit.compare.pairing import Proof
from gptkit.compare.plots import MOST_LAYERS, MOST_LINES
from gptkit.compare.results import Results
from gptkit.compare.statistics import Comparison
from gptkit.compare.tables import Cell, Table, clean

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif }
main { max-width: 1240px; margin: 0 auto; padding: 20px 20px 80px }
h1 { font-size: 28px; line-height: 1.25; margin: 8px 0; overflow-wrap: anywhere }
h2 { font-size: 21px; margin: 52px 0 4px; scroll-margin-top: 12px }
h3 { font-size: 15px; margin: 18px 0 4px; font-weight: 600 }
p { margin: 6px 0; max-width: 78ch; overflow-wrap: anywhere }
a { color: inherit }
.soft, small, figcaption { color: var(--soft) } small { font-size: 12px; display: block; line-height: 1.25 }
nav, .legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 14px 0 0; padding: 0; font-size: 14px;
  list-style: none }
.chip { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px }
.verdict { border-left: 4px solid var(--v0); padding: 4px 0 4px 16px; margin: 20px 0; font-size: 17px }
.verdict p:first-child { font-weight: 600 }
.note { border: 1px solid var(--line); border-left: 4px solid var(--v5); border-radius: 4px; padding: 6px 14px;
  margin: 8px 0; max-width: 84ch; overflow-wrap: anywhere }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 370px), 1fr)); gap: 18px 24px }
.both { display: grid; grid-template-columns: minmax(0, 1fr); gap: 8px 32px; align-items: start }
@media (min-width: 980px) { .both { grid-template-columns: minmax(0, 5fr) minmax(0, 7fr) } }
figure { margin: 12px 0 0; min-width: 0; max-width: 500px } figcaption { font-size: 14px; margin-bottom: 4px }
svg { display: block; width: 100%; height: auto; color: var(--ink) }
.wide { overflow-x: auto; margin: 12px 0 }
table { border-collapse: separate; border-spacing: 0; font-size: 14px; font-variant-numeric: tabular-nums;
  min-width: min(100%, 420px) }
th, td { padding: 5px 14px 5px 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line);
  white-space: nowrap }
th { color: var(--soft); font-weight: 500; white-space: normal; vertical-align: bottom; min-width: 74px }
th:first-child, td:first-child, .word { text-align: left }
td:first-child { position: sticky; left: 0; background: var(--page); max-width: 46vw; overflow-wrap: anywhere;
  min-width: var(--name); white-space: normal }
td.named { padding-left: 18px; min-width: calc(var(--name) + 32px) }
td.named .chip { position: absolute; left: 0; top: 10px }
.off { font-weight: 650 } .off small { color: var(--v1); font-weight: 500 }
.held, .broken, .unknown { padding-left: 26px; position: relative } .held::before { content: "✓"; color: var(--v2) }
.broken::before { content: "✗"; color: var(--v1) } .unknown::before { content: "–" }
.held::before, .broken::before, .unknown::before { position: absolute; left: 2px; font-weight: 700 }
pre, code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace }
pre { border: 1px solid var(--line); border-radius: 4px; padding: 10px 12px; overflow-x: auto; margin: 8px 0 }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 18px; font-size: 14px }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
@media (max-width: 560px) { main { padding: 12px 14px 60px } h1 { font-size: 23px } .verdict { font-size: 16px } }
@media print { .wide { overflow: visible } h2 { break-after: avoid } figure, tr { break-inside: avoid } }
"""


def report(
    results: Results,
    comparison: Comparison,
    cautions: Sequence[Caution],
    proofs: Sequence[Proof],
    plots: Mapping[str, Plot],
) -> str:
    """The whole page.

    Args:
        results: what was found.
        comparison: what its scores prove.
        cautions, proofs: how far it may be believed.
        plots: by name, as `plots.draw` gives them.
    """
    page = _Page(results, comparison, plots)
    title = words.title(results)
    parts = list(page.sections(proofs))
    links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in parts)
    verdict = "".join(f"<p>{_text(sentence)}</p>" for sentence in comparison.verdict)
    notes = "".join(f'<div class="note" role="note">{_text(caution.text)}</div>' for caution in cautions)
    body = "".join(
        f'<section><h2 id="{name}">{escape(heading)}</h2>{html}</section>' for name, heading, html in parts
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(title)}</title>
<style>{css()}{_STYLE}</style>
</head>
<body>
<main style="--name: {page.widest}ch">
<header>
<h1>{_text(title)}</h1>
<p class="soft">{_text(words.question(results, comparison))}</p>
<div class="verdict">{verdict}</div>
{notes}
{page.legend()}
<nav aria-label="Sections">{links}</nav>
</header>
{body}
</main>
</body>
</html>
"""


class _Page:
    def __init__(self, results: Results, comparison: Comparison, plots: Mapping[str, Plot]) -> None:
        self.results, self.comparison, self.plots = results, comparison, plots
        self.numbers = {label: number % len(PALETTE) for number, label in enumerate(results.labels)}
        self.widest = min(14, max((len(clean(label)) for label in results.labels), default=0))
        self.labels = series.order(results, (one.label for one in comparison.ranking))
        self.drawn = self.labels[:MOST_LINES]

    def sections(self, proofs: Sequence[Proof]) -> Iterator[tuple[str, str, str]]:
        """Each as a name, a heading and HTML."""
        ranked = self.table(tables.ranking(self.comparison)) if self.comparison.ranking else ""
        none = "No run has ended well, so there is nothing to rank."
        ranked += _line(
            "An interval that is far wider than the spread of the seeds runs off the plot's frame."
        )
        yield "ranking", "Ranking", self.both("ranking", ranked, none)
        note = (
            "Mean over seeds; the band is one standard deviation. The first quarter may lie above the frame."
        )
        none = "There is no curve: fewer than two validations in each run."
        yield "curves", "Learning curves", self.panels("curve-", note, none)
        tuned = "".join(map(self.table, tuning.tables(self.results, self.labels)))
        if tuned:
            read = "".join(map(_line, trial_curves.notes(self.results, self.drawn)))
            drawn = self.panels("tuning-", tuning.told(self.results), "")
            yield "tuning", "Tuning", drawn + read + tuned
        answers = probes.table(self.results, self.labels)
        if answers:
            note = "Mean over seeds at the end of training; the band is one standard deviation."
            yield "answers", "Answers by length", self.panels("probe-", note, "") + self.table(answers)
        note = "Mean over seeds after training: how much a longer past within the context helps."
        note = f"{note} {tables.placed(self.results, self.labels)}".rstrip()
        yield (
            "position",
            "Loss by position",
            self.panels("position", note, "Loss by position was not measured."),
        )
        yield "length", "Longer and shorter texts than trained on", self.lengths()
        encodings = self.panels(
            "encoding-", "Each different encoding once; one that adds nothing has no picture.", ""
        )
        if self.figures("encoding-"):
            yield "encodings", "Positions", encodings
        note = f"Mean attention weight over heads and seeds; at most {MOST_LAYERS} layers are shown."
        none = "Attention by distance was not measured."
        yield "attention", "Attention by distance", self.panels("attention-", note, none)
        cost = tables.cost(self.results, self.labels)
        yield "cost", "Cost", self.table(cost) if cost else _line("Costs were not measured.")
        pairs = self.table(tables.differences(self.comparison)) if self.comparison.differences else ""
        note = _line("A filled dot: told apart after correction for all pairs. A hollow one: not.")
        drawn = self.figures("differences")
        none = _line("There are no two variants to compare.")
        yield "differences", "Pairwise differences", (note + drawn if drawn else "") + pairs or none
        yield "ground", "Equal ground", self.ground(proofs)
        failed = words.failures(self.results)
        if failed:
            yield "failed", "Runs that did not finish", "".join(_failure(*one) for one in failed)
        told = "".join(
            f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in words.versions(self.results)
        )
        command = f'<pre class="command">{escape(words.command(self.results))}</pre>'
        yield "repeat", "To repeat it", f"{command}<dl>{told}</dl>"

    def legend(self) -> str:
        """The colours, the same in all plots and tables."""
        shown = "".join(f"<li>{self.chip(label)}{_text(label)}</li>" for label in self.labels[:40])
        more = len(self.results.labels) > MOST_LINES
        note = f'<p class="soft">Curves show the best {MOST_LINES} variants.</p>' if more else ""
        return f'<ul class="legend" aria-label="Variants">{shown}</ul>{note}'

    def chip(self, label: str) -> str:
        return f'<span class="chip" style="background: var(--v{self.numbers[label]})"></span>'

    def figures(self, prefix: str) -> str:
        return "".join(
            f"<figure><figcaption>{_text(plot.title)}</figcaption>{plot.svg}</figure>"
            for name, plot in self.plots.items()
            if name.startswith(prefix)
        )

    def panels(self, prefix: str, note: str, none: str) -> str:
        drawn = self.figures(prefix)
        return f'{_line(note)}<div class="plots">{drawn}</div>' if drawn else _line(none)

    def both(self, prefix: str, table: str, none: str) -> str:
        """A plot beside its table, where there is room."""
        drawn = self.figures(prefix)
        return f'<div class="both">{drawn}<div>{table}</div></div>' if drawn else _line(none)

    def lengths(self) -> str:
        """Panels, and a table that says why some refused."""
        table = tables.lengths(self.results, self.labels)
        if table is None:
            return _line("Other lengths were not measured.")
        note = (
            "The same text, cut into windows that do not overlap, in which the first tokens of each window have "
            "little before them, or read by a sliding window, in which every token scored has at least three quarters "
            "of the window before it. A cross ends the line of a variant that refuses longer texts."
        )
        return self.panels("length-", note, "Every variant refused every length.") + self.table(table)

    def ground(self, proofs: Sequence[Proof]) -> str:
        """What was equal, and the hashes that show it."""
        told = "".join(map(_proof, proofs))
        paid = words.pairing(self.comparison)
        shared = tables.hashes(self.results)
        found = told + (_line(paid) if paid else "") + (self.table(shared) if shared else "")
        return found or _line("Nothing was measured that proves it.")

    def table(self, table: Table) -> str:
        """A table, its first column with the colours of variants."""
        sides = [' class="word"' if name in table.words else "" for name in table.header]
        heads = "".join(
            f"<th scope=col{side}>{_text(n)}</th>" for n, side in zip(table.header, sides, strict=True)
        )
        rows = "".join(f"<tr>{self.cells(row, table)}</tr>" for row in table.rows)
        notes = "".join(_line(note) for note in table.notes)
        inner = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
        return f'<div class="wide" tabindex="0"><table>{inner}</table></div>{notes}'

    def cells(self, row: Sequence[Cell], table: Table) -> str:
        found = []
        for name, cell in zip(table.header, row, strict=True):
            chip = self.chip(cell.text) if name == "variant" else ""
            kinds = " ".join(
                [*["named"] * bool(chip), *["word"] * (name in table.words), *["off"] * cell.marked]
            )
            note = f"<small>{_text(cell.note)}</small>" if cell.note else ""
            found.append(f"<td{f' class={kinds!r}' if kinds else ''}>{chip}{_text(cell.text)}{note}</td>")
        return "".join(found)


def _proof(proof: Proof) -> str:
    """One with its sign; what was not measured has none, and says so."""
    if proof.state in ("held", "broken"):
        return f'<p class="{proof.state}">{_text(proof.text)}</p>'
    return f'<p class="unknown soft">{_text(proof.text)} ({proof.state})</p>'


def _failure(name: str, error: str) -> str:
    told = f"<pre>{escape(words.lines_of(error))}</pre>" if error.strip() else _line("It left no word.")
    return f"<h3>{_text(name)}</h3>{told}"


def _line(text: str) -> str:
    return f'<p class="soft">{_text(text)}</p>'


def _text(text: str) -> str:
    return escape(clean(text))
