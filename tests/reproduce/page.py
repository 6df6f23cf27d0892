"""The report: for each claim what a paper says, what was run, and what came of it."""

from __future__ import annotations

import math
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from gptkit.compare.results import Results
from gptkit.compare.words import versions
from reproduce.claims import CLAIMS, Claim
from reproduce.judging import Finding, corrected
from reproduce.sweeps import SWEEPS

_HEAD = """# What is known, tried here

Orderings that papers report, at the size of a laptop: small models, the carried text or probes, some minutes on two cores.
`make reproduce` trains what is missing and writes this page.

Each statement is judged by a one-sided t test over paired seeds, corrected for all statements of this page (Holm 1979); a
claim holds where all its statements do, at p < 0.05. Settings were chosen on seed 101; seeds {seeds} are reported.
"""


def write(
    out: Path, sweeps: Mapping[str, Results], numbers: Sequence[int], seeds: Sequence[int]
) -> dict[int, bool]:
    """Judge claims and write the page; returns which hold.

    Args:
        out: the page; plots go into the folder beside it that has its name.
        sweeps: those that the claims need, by name.
        numbers: of the claims.
        seeds: that were reported.
    """
    found = {number: CLAIMS[number].judge(sweeps) for number in numbers}
    settled = iter(corrected([finding for number in numbers for finding in found[number]]))
    judged = {number: [next(settled) for _ in found[number]] for number in numbers}
    holds = {number: bool(told) and all(f.holds for f in told) for number, told in judged.items()}
    pictures = out.with_suffix("")
    parts = [_HEAD.format(seeds=", ".join(map(str, seeds))), _table(holds)]
    parts += [_part(n, judged[n], holds[n], seeds, _plots(CLAIMS[n], sweeps, pictures)) for n in numbers]
    parts.append(_made(sweeps))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(parts), "utf-8")
    return holds


def _table(holds: Mapping[int, bool]) -> str:
    told = {True: "yes", False: "**no**", None: "not run"}
    rows = [f"| {n} | {claim.title} | {claim.source} | {told[holds.get(n)]} |" for n, claim in CLAIMS.items()]
    return "\n".join(["| | claim | source | holds here |", "|---|---|---|---|", *rows, ""])


def _part(
    number: int, findings: Sequence[Finding], held: bool, seeds: Sequence[int], plots: Sequence[str]
) -> str:
    claim = CLAIMS[number]
    lines = [f"## {number}. {claim.title}", "", f"{claim.source}. {claim.told}".strip(), "", "```bash"]
    lines += [SWEEPS[name].command(seeds) for name in claim.sweeps]
    lines += ["```", "", f"**{'It holds here.' if held else 'It does not hold here.'}**", ""]
    lines += [f"- {_sentence(finding)}" for finding in findings] + [""]
    lines += [] if held or not claim.why_not else [f"Why it may not: {claim.why_not}", ""]
    return "\n".join([*lines, *(f"![{Path(plot).stem}]({plot})\n" for plot in plots)])


def _sentence(finding: Finding) -> str:
    if not finding.tested:
        return f"{finding.text}: {'yes' if finding.holds else 'no'}."
    if math.isnan(finding.p):
        return f"{finding.text}: there are too few figures to judge."
    p = "< 0.0001" if finding.p < 1e-4 else f"= {finding.p:.2g}"
    return f"{finding.text}: {'shown' if finding.holds else 'not shown'}, p {p}."


def _plots(claim: Claim, sweeps: Mapping[str, Results], pictures: Path) -> list[str]:
    """Copies of the sweeps' plots that a claim shows, as paths from the page."""
    shown = []
    for place in claim.plots:
        sweep, _, name = place.partition("/")
        source = sweeps[sweep].folder / "plots" / f"{name}.svg"
        if source.is_file():
            pictures.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, pictures / f"{sweep}-{name}.svg")
            shown.append(f"{pictures.name}/{sweep}-{name}.svg")
    return shown


def _made(sweeps: Mapping[str, Results]) -> str:
    """With what, and how long it took."""
    runs = [run for results in sweeps.values() for run in results.runs]
    seconds = sum(float(run.result.get("seconds", 0)) for run in runs)
    kept = {
        name: value for name, value in versions(next(iter(sweeps.values()))) if name in ("torch", "gptkit")
    }
    told = ", ".join(f"{name} {value}" for name, value in kept.items())
    return (
        f"## Made with\n\n{len(runs)} runs, {seconds / 60:.0f} minutes of training in all, one core each; "
        f"Python {platform.python_version()}{', ' + told if told else ''}.\n"
    )
