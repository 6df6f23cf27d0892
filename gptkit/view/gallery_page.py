"""The gallery as one page that needs no network, and as a page of Markdown."""

from __future__ import annotations

import base64
import re
from html import escape

from gptkit.registry import SLOTS
from gptkit.view.gallery import Entry, Gallery

_STYLE = """
:root { --ink: #1f2933; --soft: #5c6873; --line: #e1e6ea; --page: #ffffff; --card: #f7f9fa; --blue: #2f6fc4 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaee; --soft: #9aa6b2; --line: #2d353e; --page: #14181d; --card: #1a2027; --blue: #7fb2ff }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 24px 20px 80px }
h1 { font-size: 30px; margin: 8px 0 } h2 { font-size: 22px; margin: 56px 0 2px; scroll-margin-top: 12px }
h3 { font: 600 17px ui-monospace, "SF Mono", Menlo, Consolas, monospace; margin: 0 }
p { margin: 8px 0; max-width: 74ch }
a { color: var(--blue); text-decoration: none } a:hover { text-decoration: underline }
.soft, .from { color: var(--soft) } .from { font-size: 13px; margin-left: 8px; font-weight: 400 }
nav { display: flex; flex-wrap: wrap; gap: 6px 14px; margin: 14px 0 0; font-size: 14px }
input { width: 100%; max-width: 420px; padding: 8px 10px; font: inherit; color: inherit; background: var(--card);
  border: 1px solid var(--line); border-radius: 6px; margin-top: 18px }
.part { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px; margin: 14px 0;
  scroll-margin-top: 12px }
.both { display: grid; grid-template-columns: minmax(0, 1fr); gap: 18px }
@media (min-width: 820px) { .both.seen { grid-template-columns: minmax(0, 1fr) 400px } }
.first { font-weight: 600 }
.both img { width: 100%; max-width: 460px; height: auto }
pre { overflow-x: auto; margin: 8px 0 }
code, pre { font: 13.5px ui-monospace, "SF Mono", Menlo, Consolas, monospace }
table { border-collapse: collapse; font-size: 14px; width: 100% } td { padding: 3px 12px 3px 0; vertical-align: top;
  border-top: 1px solid var(--line) } td:first-child { white-space: nowrap }
.wide { overflow-x: auto } .command { margin: 10px 0 } .presets { font-size: 14px }
"""
_FILTER = """
const box = document.querySelector("input");
box.hidden = false;
box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
  for (const part of document.querySelectorAll(".part")) {
    const text = part.textContent.toLowerCase();
    part.hidden = !words.every(word => text.includes(word));
  }
  for (const slot of document.querySelectorAll("section")) {
    slot.hidden = !slot.querySelector(".part:not([hidden])");
  }
});
"""


def html(made: Gallery) -> str:
    """One page: slots, their parts, formulas, options and pictures. Reads well without its script."""
    count = sum(map(len, made.entries.values()))
    links = "".join(f'<a href="#{escape(slot)}">{escape(slot)}</a>' for slot in made.entries)
    sections = "".join(_section(slot, entries) for slot, entries in made.entries.items())
    broken = "".join(f"<p>{escape(line)}</p>" for line in made.broken)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>The parts of gptkit</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>The parts of gptkit</h1>
<p class="soft">{count} parts in {len(made.entries)} slots. Each is chosen by one word of a command or of YAML.</p>
<nav>{links}</nav>
<input type="search" placeholder="Find: alibi, Press, gate …" aria-label="Find a part" hidden>
{sections}{broken}
</main>
<script>{_FILTER}</script>
</body>
</html>
"""


def _section(slot: str, entries: list[Entry]) -> str:
    parts = "".join(map(_part, entries))
    return (
        f'<section><h2 id="{escape(slot)}">{escape(slot)}</h2><p class="soft">{escape(SLOTS[slot].summary)}</p>'
        f"{parts}</section>"
    )


def _part(entry: Entry) -> str:
    first, *rest = (re.sub("`([^`]+)`", r"<code>\1</code>", escape(p)) for p in (entry.summary, *entry.text))
    text = f'<p class="first">{first}</p>' + "".join(
        f"<pre>{paragraph}</pre>" if "\n" in paragraph else f"<p>{paragraph}</p>" for paragraph in rest
    )
    rows = "".join(
        f"<tr><td><code>{escape(row.name)}</code></td><td><code>{escape(row.default)}</code></td>"
        f"<td>{escape(row.help)}<br><span class=soft>{escape(row.type)}</span></td></tr>"
        for row in entry.options
    )
    options = f'<div class="wide"><table>{rows}</table></div>' if rows else ""
    presets = f'<p class="presets soft">In {escape(", ".join(entry.presets))}.</p>' if entry.presets else ""
    picture = _image(entry) if entry.picture else ""
    return (
        f'<article class="part" id="{escape(entry.slot)}.{escape(entry.name)}">'
        f'<h3>{escape(entry.name)}<span class="from">{escape(entry.origin)}</span></h3>'
        f'<div class="both{" seen" if picture else ""}"><div>{text}'
        f'<p class="command"><code>gptkit train {escape(entry.command)}</code></p>{presets}{options}</div>'
        f"{picture}</div></article>"
    )


def _image(entry: Entry) -> str:
    """The picture as a file within the page, so that its styles stay its own."""
    data = base64.b64encode(entry.picture.encode("utf-8")).decode("ascii")
    return f'<div><img alt="{escape(entry.slot)}={escape(entry.name)}" src="data:image/svg+xml;base64,{data}"></div>'


def markdown(made: Gallery) -> str:
    """A table for each slot."""
    lines = [
        "# The parts",
        "",
        "Written by `make gallery`; `gptkit gallery out=DIR` makes a page with formulas, options and pictures of all",
        "parts that are installed.",
    ]
    for slot, entries in made.entries.items():
        lines += ["", f"## `{slot}`", "", f"{SLOTS[slot].summary[:1].upper()}{SLOTS[slot].summary[1:]}.", ""]
        lines += ["| name | what it is | from | presets |", "|---|---|---|---|"]
        for entry in entries:
            summary = entry.summary.replace("|", "\\|")
            presets = ", ".join(f"`{name}`" for name in entry.presets[:4])
            more = f" and {len(entry.presets) - 4} more" if len(entry.presets) > 4 else ""
            lines.append(f"| `{entry.name}` | {summary} | {entry.origin} | {presets}{more} |")
    return "\n".join(lines) + "\n"
