"""Pictures of positions: of the trained parts, once for each different one, and only where they differ."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

import gptkit
from demo_sweep import demo
from gptkit.compare import plots, positions, statistics
from gptkit.compare.canvas import Canvas, Frame
from gptkit.compare.ink import Plot, heat
from gptkit.compare.results import Results, Trained
from gptkit.compare.series import Band
from test_comparison_report import sections, written

LABELS = ("sinusoidal", "learned", "none", "rotary", "alibi")


def kept(run: Trained) -> Trained:
    """The run with a model in its folder."""
    model = gptkit.build(
        {
            "model": {
                "vocab_size": 11,
                "context_length": 16,
                "n_layers": 1,
                "n_heads": 2,
                "d_model": 16,
                "position": {"name": run.label},
            }
        }
    )
    if run.label == "learned":
        with torch.no_grad():
            next(model.position.parameters()).copy_(torch.arange(16.0)[:, None].expand(16, 16))
    gptkit.save(model, run.path)
    assert model.config is not None
    return dataclasses.replace(run, config=model.config)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("positions")
    (folder / "jobs").mkdir()
    made = demo(folder, LABELS, seeds=1)
    return dataclasses.replace(made, runs=[kept(run) for run in made.runs])


def drawn(results: Results) -> dict[str, Plot]:
    found = plots.draw(results, statistics.compare(results))
    return {name: plot for name, plot in found.items() if name.startswith("encoding-")}


def test_each_part_is_drawn_once_where_it_acts(results: Results) -> None:
    titles = sorted(plot.title for plot in drawn(results).values())
    assert [title.partition(":")[0] for title in titles if ":" in title] == [
        "alibi",
        "learned",
        "rotary",
        "sinusoidal",
    ]
    assert "learned: added to the tokens, as trained with seed 1" in titles
    assert {"encoding-products", "encoding-scores"} <= set(drawn(results))


def test_products_are_of_trained_numbers_and_scores_turn_with_distance(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, titles = {}, []

    def keep(self: Canvas, title: str, bands: dict[str, Band], frame: Frame) -> None:
        seen[title.split()[0]] = bands
        titles.append(title)

    monkeypatch.setattr(Canvas, "lines", keep)
    dict(positions.plots(results, Canvas(results.labels), LABELS))
    assert set(seen["Dot"]) == {"sinusoidal", "learned"}
    assert set(seen["The"]) == {"rotary"}
    learned = seen["Dot"]["learned"]  # position p holds p in each of 16 numbers
    alone = sum(16 * p * p for p in range(16)) / 16
    assert learned.mean[0] == 1
    assert learned.mean[3] == pytest.approx(sum(16 * p * (p - 3) for p in range(3, 16)) / 13 / alone)
    wave = seen["Dot"]["sinusoidal"].mean
    assert wave[3] == pytest.approx(sum(math.cos(3 / 10000 ** (i / 8)) for i in range(8)) / 8, rel=1e-3)
    [title] = [title for title in titles if title.startswith("Dot")]
    assert set(title.partition("; 1 is ")[2].split(", ")) == {
        "8 with sinusoidal",  # eight pairs, sin² + cos² = 1
        f"{alone:.3g} with learned",
    }


def test_the_page_has_the_section_and_files_stand_alone(results: Results) -> None:
    page = written(results)
    assert "as trained with seed 1" in sections(page)["encodings"]
    text = page.read_text("utf-8")
    assert "<img" not in text
    assert "<image" not in text
    files = list((page.parent / "plots").glob("encoding-*.svg"))
    assert len(files) == 6
    for path in files:
        ElementTree.fromstring(path.read_text("utf-8"))
        assert "var(--v" in path.read_text("utf-8").split("</style>", 1)[1]


def test_nothing_is_drawn_where_no_position_differs_or_folders_are_gone(
    results: Results, tmp_path: Path
) -> None:
    same = [dataclasses.replace(run, config=results.runs[0].config) for run in results.runs]
    assert drawn(dataclasses.replace(results, runs=same)) == {}
    gone = [dataclasses.replace(run, path=tmp_path / "gone") for run in results.runs]
    assert drawn(dataclasses.replace(results, runs=gone)) == {}
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("{", "utf-8")
    odd = [dataclasses.replace(run, path=tmp_path / "odd") for run in results.runs]
    assert drawn(dataclasses.replace(results, runs=odd)) == {}


def test_a_heat_map_tells_signs_apart_and_names_stay_text() -> None:
    plot = heat("<b>&", [[-1.0, 0.0, 1.0, math.nan]], "<i>", "head", 4)
    assert re.findall(r"fill: var\(--(v\d)\)", plot.svg) == ["v0", "v1"]
    assert "<b>" not in plot.svg
    assert "<i>" not in plot.svg
    assert plot.svg.count("<path") == 2
