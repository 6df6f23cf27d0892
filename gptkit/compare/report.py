"""Write what a sweep found: results.json, results.csv, report.md, report.html and plots as SVG."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptkit import files
from gptkit.compare import tuning
from gptkit.compare.honesty import Caution
from gptkit.compare.pairing import Proof
from gptkit.compare.results import PLOTS, Results, Trained
from gptkit.compare.statistics import Comparison
from gptkit.errors import RunError, UserError

FORMAT = 1
JSON, CSV, MARKDOWN, HTML = "results.json", "results.csv", "report.md", "report.html"
_FORMULA = re.compile(r"^[=+\-@\t\r]")


def write(
    results: Results, comparison: Comparison, cautions: Sequence[Caution], proofs: Sequence[Proof]
) -> Path:
    """Write the whole report into the sweep's folder; returns the path of `report.html`.

    Args:
        results: what was found.
        comparison: what its scores prove.
        cautions: where a claim would be weak.
        proofs: what shows that variants stood on equal ground.

    Raises:
        UserError: matplotlib is missing.
        RunError: the folder cannot be written.
    """
    try:
        from gptkit.compare import plots
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise UserError(
            "The report's plots need matplotlib, which is not installed. Run: pip install scipy matplotlib"
        ) from None
    from gptkit.compare import markdown, pages

    drawn = plots.draw(results, comparison)
    folder = results.folder
    try:
        files.make_directory(folder / PLOTS)
        for old in (folder / PLOTS).glob("*.svg"):
            old.unlink()
        for name, plot in drawn.items():
            (folder / PLOTS / f"{name}.svg").write_text(plot.document(), "utf-8")
        files.write_json(folder / JSON, facts(results, comparison, cautions, proofs))
        files.write_bytes(folder / CSV, table(results).encode("utf-8"))
        text = markdown.report(results, comparison, cautions, proofs, drawn)
        files.write_bytes(folder / MARKDOWN, text.encode("utf-8"))
        page = pages.report(results, comparison, cautions, proofs, drawn)
        files.write_bytes(folder / HTML, page.encode("utf-8"))
    except OSError as error:
        raise RunError(f"The report cannot be written into {folder}: {files.cause(error)}.") from error
    return folder / HTML


def facts(
    results: Results, comparison: Comparison, cautions: Sequence[Caution], proofs: Sequence[Proof]
) -> dict[str, Any]:
    """All of it as plain data; a number that is not finite becomes null when it is written."""
    return {
        "format": FORMAT,
        "folder": str(results.folder),
        "command": list(results.command),
        "varied": list(results.varied),
        "labels": results.labels,
        "seeds": results.seeds,
        "comparison": {
            **dataclasses.asdict(comparison),
            "differences": [
                {**dataclasses.asdict(d), "told_apart": d.told_apart, "pairing_pays": d.pairing_pays}
                for d in comparison.differences
            ],
        },
        "cautions": [dataclasses.asdict(caution) for caution in cautions],
        "proofs": [{"kind": p.kind, "held": p.held, "state": p.state, "text": p.text} for p in proofs],
        "runs": [_facts(run) for run in results.runs],
        "tuning": tuning.facts(results),
        "sweep": dict(results.sweep),
    }


def _facts(run: Trained) -> dict[str, Any]:
    return {
        "number": run.point.number,
        "label": run.label,
        "variant": dict(run.point.variant),
        "seed": run.seed,
        "status": run.status,
        "path": str(run.path),
        "overrides": list(run.point.overrides),
        "error": run.error,
        "result": dict(run.result),
        "measures": dict(run.measures),
        "curve": [dict(row) for row in run.rows if "val_loss" in row],
        "config": dict(run.config),
    }


def table(results: Results) -> str:
    """CSV with a row for each run: variant, seed, status, and every number and word that it told."""
    header, rows = columns(results)
    file = io.StringIO()
    writer = csv.DictWriter(file, header, lineterminator="\n")
    writer.writerow({key: _word(key) for key in header})
    writer.writerows({key: _word(value) for key, value in row.items()} for row in rows)
    return file.getvalue()


def columns(results: Results) -> tuple[list[str], list[dict[str, Any]]]:
    """The names of all columns of the table, and each run's own cells by them."""
    rows = [dict(_columns(run)) for run in results.runs]
    return list(dict.fromkeys(key for row in rows for key in row)), rows


def _columns(run: Trained) -> Iterator[tuple[str, Any]]:
    yield "number", run.point.number
    yield from run.point.variant.items()
    yield "seed", run.seed
    yield "status", run.status
    yield from ((f"result.{key}", value) for key, value in run.result.items() if _is_scalar(value))
    for name in ("cost", "proof"):
        held = run.measures.get(name)
        if isinstance(held, Mapping):
            yield from ((f"{name}.{key}", value) for key, value in held.items() if _is_scalar(value))
    held = run.measures.get("lengths")
    for entry in held if isinstance(held, list) else ():
        if isinstance(entry, Mapping) and "factor" in entry:
            yield from (
                (f"length.{entry['factor']}.{key}", value)
                for key, value in entry.items()
                if key != "factor" and _is_scalar(value)
            )


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _word(value: Any) -> Any:
    """A value of a cell: nothing for what is no number, and no text that a spreadsheet would run."""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    if isinstance(value, str) and _FORMULA.match(value):
        try:
            float(value)
        except ValueError:
            return f"'{value}"
    return value
