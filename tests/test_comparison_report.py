"""The report of a sweep: its files agree, a stranger's names stay text, and a browser finds nothing to complain of."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from demo_sweep import LABELS, demo
from gptkit.compare import honesty, pairing, report, statistics
from gptkit.compare.results import Results, Trained
from gptkit.errors import RunError, UserError

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>$\\frac{a$|`\u202e\x1b[31m\"'&"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")


def written(results: Results) -> Path:
    """Write the report as `gptkit compare` does."""
    comparison = statistics.compare(results)
    return report.write(results, comparison, honesty.warnings(results, comparison), pairing.proofs(results))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return demo(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def page(results: Results) -> Path:
    return written(results)


class Seen(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def sections(page: Path) -> dict[str, str]:
    """What each section says, by its name."""
    found = re.findall(r'<section><h2 id="(\w+)">(.*?)</section>', page.read_text("utf-8"), re.S)
    return {name: Seen(f"<h2>{text}").words for name, text in found}


def changed(results: Results, folder: Path, change) -> Results:
    """The same sweep with other runs, in another folder."""
    return dataclasses.replace(results, folder=folder, runs=[change(run) for run in results.runs])


def bare(run: Trained) -> Trained:
    """A run without measures and curve."""
    return dataclasses.replace(run, measures={}, rows=())


def test_the_page_has_every_part_in_order(page: Path) -> None:
    order = [
        "ranking",
        "curves",
        "position",
        "length",
        "attention",
        "cost",
        "differences",
        "ground",
        "failed",
        "repeat",
    ]
    assert list(sections(page)) == order
    text = page.read_text("utf-8")
    before = text[: text.index("<section>")]
    assert (
        before.index("Which position") < before.index("rotary is better than") < before.index("Not converged")
    )
    assert text.count("<svg") == len(list((page.parent / "plots").glob("*.svg"))) == 13


def test_the_page_is_well_formed_and_holds_nothing_active_or_from_elsewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    seen = Seen(text)
    assert not seen.wrong
    assert not seen.open
    tags = {tag for tag, _ in seen.tags}
    assert not tags & {"script", "img", "iframe", "object", "embed", "link", "form", "base", "foreignobject"}
    for tag, held in seen.tags:
        assert not any(name.startswith("on") for name in held), tag
        assert all((held.get(name) or "#").startswith("#") for name in ("src", "href", "xlink:href"))
    policy = next(
        held["content"] for tag, held in seen.tags if held.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_ids_are_unique_and_every_reference_has_one(page: Path) -> None:
    text = page.read_text("utf-8")
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    assert wanted
    assert wanted <= set(ids)


def test_plots_take_the_colours_of_the_page_and_stand_alone(page: Path) -> None:
    for path in (page.parent / "plots").glob("*.svg"):
        text = path.read_text("utf-8")
        ElementTree.fromstring(text)
        assert "prefers-color-scheme: dark" in text
        drawn = text.split("</style>", 1)[1]
        assert "var(--ink)" in drawn
        assert not re.search(r"(fill|stroke): ?#", drawn), path.name


def test_a_variant_has_one_colour_everywhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for number, label in enumerate(LABELS):
        colours = set(re.findall(rf"var\(--v(\d)\)\"></span>{label}<", text))
        assert colours == {str(number)}


def test_refusals_are_shown_with_their_reason(page: Path) -> None:
    told = sections(page)["length"]
    assert told.count("refuses") == 7  # in the note, in each of three plots, in two cells and in the reason
    assert told.count("refuses past 1 ×") == 3
    assert "learned refuses from 2 × on: Learned positions end at 63" in told


def test_what_is_unequal_stands_out(page: Path) -> None:
    text = page.read_text("utf-8")
    cost = text[text.index('id="cost"') : text.index('id="differences"')]
    marked = re.findall(r"<td class='off'>([^<]+)<small>([^<]+)</small>", cost)
    assert ("821,760", "+1.0 %") in marked
    assert all("%" in note for _, note in marked)
    assert "2 KiB" not in [value for value, _ in marked]


def test_failed_runs_are_told_with_their_last_lines(page: Path) -> None:
    told = sections(page)["failed"]
    assert "none, seed 3: failed" in told
    assert "CUDA out of memory" in told


def test_json_is_strict_and_whole(page: Path, results: Results) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    told = json.loads((page.parent / "results.json").read_text("utf-8"), parse_constant=refuse)
    assert len(told["runs"]) == 25
    assert [run["label"] for run in told["runs"][:5]] == list(LABELS)
    assert told["runs"][3]["result"]["val_loss"] == results.runs[3].result["val_loss"]
    assert told["comparison"]["ranking"][0]["label"] == "rotary"
    assert len(told["comparison"]["differences"]) == 10
    assert told["cautions"]
    assert all(proof["held"] for proof in told["proofs"])
    assert told["sweep"] == results.sweep


def test_csv_has_a_row_for_each_run(page: Path, results: Results) -> None:
    rows = list(csv.DictReader((page.parent / "results.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 25
    assert rows[0]["position"] == "sinusoidal"
    assert {row["status"] for row in rows} == {"finished", "failed"}
    for row, run in zip(rows, results.runs, strict=True):
        if run.status == "finished":
            assert float(row["result.val_loss"]) == run.result["val_loss"]
            assert float(row["cost.peak_bytes"]) == run.measures["cost"]["peak_bytes"]
    assert rows[1]["length.2.refused"].startswith("Learned positions end")


def test_markdown_tells_the_same(page: Path) -> None:
    text = (page.parent / "report.md").read_text("utf-8")
    assert "- rotary is better than alibi" in text
    assert "gptkit compare position=sinusoidal,learned,none,rotary,alibi seed=1,2,3,4,5" in text
    ranking = text[text.index("## Ranking") : text.index("## Longer")].splitlines()
    table = [line for line in ranking if line.startswith("|")]
    assert len(table) == 7
    assert len({len(line) for line in table}) == 1


@pytest.mark.parametrize("key", ["position", "<b>k</b>"])
def test_a_strangers_names_stay_text(tmp_path: Path, key: str) -> None:
    made = demo(tmp_path, ("rotary", EVIL, "=1+1|cmd"), seeds=2, key=key)
    runs = [
        dataclasses.replace(run, status="failed", error=EVIL) if run.point.number == 0 else run
        for run in made.runs
    ]
    hurt = [
        dataclasses.replace(run, measures={**run.measures, "lengths": [{"factor": 2, "refused": EVIL}]})
        for run in runs
    ]
    seen = Seen(written(dataclasses.replace(made, runs=hurt)).read_text("utf-8"))
    assert not {tag for tag, _ in seen.tags} & {"script", "img", "b"}
    assert not seen.wrong
    assert "alert(1)" in seen.words
    assert "\x1b" not in seen.words
    assert "\u202e" not in seen.words
    for path in (tmp_path / "plots").glob("*.svg"):
        names = {
            element.tag.rpartition("}")[2]
            for element in ElementTree.fromstring(path.read_text("utf-8")).iter()
        }
        assert not names & {"script", "img"}
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert not re.search(r"(?<!\\)<(script|img|b>)", markdown.split("## To repeat it")[0])
    cells = next(csv.reader((tmp_path / "results.csv").read_text("utf-8").splitlines()[3:4]))
    assert cells[1] == "'=1+1|cmd"


def test_missing_measures_leave_one_honest_line(tmp_path: Path, results: Results) -> None:
    told = sections(written(changed(results, tmp_path, bare)))
    assert "was not measured" in told["position"]
    assert "were not measured" in told["length"]
    assert "was not measured" in told["attention"]
    assert "no curve" in told["curves"]
    assert "813,568" in told["cost"]  # the result tells it
    assert {path.stem for path in (tmp_path / "plots").glob("*.svg")} == {"ranking", "differences"}


def test_measures_of_any_shape_are_survived(tmp_path: Path, results: Results) -> None:
    names = ("loss_by_position", "lengths", "attention_by_distance", "cost", "proof")
    odd = [None, 3, "x", [], {}, [None], {"a": "b"}, [{"factor": "x"}], [{"factor": 2, "sliding": []}],
           {"positions": [1, "2"], "loss": 3, "layers": [3, ["x"]], "distances": {}, "parameters": [], "batches": {}}]  # fmt: skip

    def spoil(run: Trained) -> Trained:
        return dataclasses.replace(
            run, measures=dict.fromkeys(names, odd[run.point.number % len(odd)]), rows=run.rows[-1:]
        )

    made = changed(results, tmp_path, spoil)
    told = sections(report.write(made, statistics.compare(made), [], []))
    assert "was not measured" in told["position"]
    assert len(list(csv.reader((tmp_path / "results.csv").read_text("utf-8").splitlines()))) == 26


def test_one_seed_and_a_loss_that_is_no_number(tmp_path: Path) -> None:
    made = demo(tmp_path, ("rotary", "alibi"), seeds=1)
    runs = [
        made.runs[0],
        dataclasses.replace(made.runs[1], result={**made.runs[1].result, "val_loss": math.nan}),
    ]
    page = written(dataclasses.replace(made, runs=runs))
    assert "nan" not in Seen(page.read_text("utf-8")).words.lower()
    assert json.loads((tmp_path / "results.json").read_text("utf-8"))["runs"][1]["result"]["val_loss"] is None


def test_nothing_finished_is_reported_all_the_same(tmp_path: Path, results: Results) -> None:
    lost = changed(
        results,
        tmp_path,
        lambda run: dataclasses.replace(run, status="lost", result={}, measures={}, rows=()),
    )
    told = sections(
        report.write(
            lost, statistics.Comparison("val_loss", "nats", [], [], ["No run has ended well."]), [], []
        )
    )
    assert "nothing to rank" in told["ranking"]
    assert told["failed"].count("lost") == 25


def test_many_variants_are_cut_where_they_could_not_be_read(tmp_path: Path) -> None:
    labels = tuple(f"variant-{number}-of-a-rather-long-name" for number in range(24))
    made = demo(tmp_path, labels, seeds=2)
    page = written(changed(made, tmp_path, lambda run: dataclasses.replace(run, measures={})))
    text = page.read_text("utf-8")
    assert "The first 100 of 276 pairs" in text
    assert "Curves show the best 10 variants" in text
    assert len(json.loads((tmp_path / "results.json").read_text("utf-8"))["comparison"]["differences"]) == 276


def test_a_second_report_is_the_same_and_leaves_no_old_plot(page: Path, results: Results) -> None:
    before = page.read_bytes()
    old = page.parent / "plots" / "attention-99.svg"
    old.write_text("of a report before")
    assert written(results).read_bytes() == before
    assert not old.exists()


def test_without_matplotlib_it_says_what_to_install(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("plots", "canvas", "ink", "pages"):
        monkeypatch.delitem(sys.modules, f"gptkit.compare.{name}", raising=False)
        monkeypatch.delattr(f"gptkit.compare.{name}", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(UserError, match="pip install scipy matplotlib"):
        written(results)


class Missing:
    """Finds no matplotlib."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")


def test_importing_the_report_imports_no_matplotlib() -> None:
    code = (
        "import sys, gptkit.compare.report; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, results: Results) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        written(changed(results, tmp_path / "file" / "sweep", bare))


def browse(page: Path, shot: Path, width: int, *, dark: bool = False) -> tuple[list[str], list[str]]:
    """Open a page and take its picture; returns what the console said, and addresses asked of a network."""
    log = shot.with_suffix(".net.json")
    found = subprocess.run(
        [
            str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
            f"--user-data-dir={shot.parent / 'profile'}", f"--window-size={width},6000", f"--screenshot={shot}", f"--log-net-log={log}",
            *["--blink-settings=preferredColorScheme=0"] * dark, page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert shot.is_file(), found.stderr
    console = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
    # 101845102 is Chromium's mark of what a page asks for; its own services ask under others
    asked = re.findall(r'"traffic_annotation":101845102,"url":"([^"]*)"', log.read_text("utf-8", "replace"))
    return console, asked


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(400, False), (1600, True)])
def test_a_browser_shows_it_without_errors_or_network(
    page: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    from PIL import Image

    console, asked = browse(page, tmp_path / "shot.png", width, dark=dark)
    assert not console
    assert all(url.startswith(("file:", "data:")) for url in asked)
    picture = Image.open(tmp_path / "shot.png").convert("L")
    corner = picture.getpixel((1, 1))
    assert isinstance(corner, int)
    assert corner < 60 if dark else corner > 240
    edge = picture.crop((picture.width - 8, 0, picture.width, picture.height))
    assert edge.getextrema() == (corner, corner)  # nothing runs over the page's side
    low, high = picture.getextrema()
    assert high - low > 150


@needs_browser
def test_a_page_that_asks_the_network_or_runs_a_script_is_noticed(page: Path, tmp_path: Path) -> None:
    text = page.read_text("utf-8").replace("default-src 'none'", "default-src 'none'; img-src http:")
    bad = tmp_path / "bad.html"
    bad.write_text(
        text.replace("</main>", '<img src="http://127.0.0.1:9/x.png"><script>1</script></main>'), "utf-8"
    )
    console, asked = browse(bad, tmp_path / "bad.png", 400)
    assert any("Content Security Policy" in line for line in console)
    assert "http://127.0.0.1:9/x.png" in asked
