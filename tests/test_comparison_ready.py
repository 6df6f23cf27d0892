"""Ready sweeps: what is typed stands before what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptkit.compare.ready import expanded
from gptkit.errors import UserError


def test_positions_are_ready() -> None:
    words = expanded(["experiment=positions"])
    assert words[-1] == "experiment=positions"
    assert words[0].startswith("position=sinusoidal,learned,none,rotary,alibi")
    typed = expanded(["experiment=positions", "model/position=rotary,cope", "seed=1,2"])
    assert typed == [
        "lengths=0.25,0.5,1,2,4,8,16",
        "experiment=positions",
        "model/position=rotary,cope",
        "seed=1,2",
    ]
    assert expanded(["position=rotary,alibi"]) == ["position=rotary,alibi"]
    assert expanded(["experiment=nanogpt_cpu"]) == ["experiment=nanogpt_cpu"]


def test_ones_own_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "conf" / "comparison"
    place.mkdir(parents=True)
    (place / "_mine.yaml").write_text("words: [norm=layer,none, seed=1,2]")
    with pytest.raises(UserError, match="must hold words"):
        expanded(["experiment=mine"])  # YAML takes the commas
    (place / "_mine.yaml").write_text("words: ['norm=layer,none', 'seed=1,2']")
    assert expanded(["experiment=mine"])[:2] == ["norm=layer,none", "seed=1,2"]


def test_every_ready_sweep_can_be_planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gptkit.compare.plan import plan
    from gptkit.composing.tree import conf_dir

    monkeypatch.chdir(tmp_path)
    for path in (conf_dir() / "comparison").glob("*.yaml"):
        made = plan(expanded([f"experiment={path.stem[1:]}"]))
        assert len(made.points) >= 10
