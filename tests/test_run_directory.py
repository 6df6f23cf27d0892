"""The run directory: made whole, found by name, read as a stranger's."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import faults
from gptkit import environment, files, registry
from gptkit import run as run_directory
from gptkit.errors import ConfigError, PluginError, RunError
from gptkit.run import Run, create, find
from gptkit.train.store import CheckpointStore

CONFIG: dict[str, Any] = {
    "seed": 1,
    "name": "try",
    "model": {
        "position": "learned",
        "mask": ["causal", {"name": "sliding_window", "window": 3}],
        "d_model": 32,
    },
    "trainer": {"keep_checkpoints": 3},
}


def made(folder: Path, **config: Any) -> Run:
    return create({**CONFIG, **config}, ["position=learned"], folder / "runs")


def test_a_run_holds_its_config_resolved(tmp_path: Path) -> None:
    run = made(tmp_path)
    told = json.loads((run.path / "config.json").read_text("utf-8"))
    assert told["model"]["position"] == {"name": "learned"}
    assert told["model"]["mask"] == {"causal": {}, "sliding_window": {"window": 3}}
    assert run.config() == told
    assert (run.path / "overrides.txt").read_text() == "position=learned\n"
    assert run.checkpoints.directory == run.path / "checkpoints"
    assert run.checkpoints.keep == 3


def test_its_environment_is_on_record(tmp_path: Path) -> None:
    told = made(tmp_path).environment()
    assert told["gptkit"]
    assert told["packages"]["torch"]
    assert told["hardware"]["cores"] >= 1
    assert told["parts"] == [
        {"slot": slot, "name": name, "kind": "core", "package": "gptkit", "version": told["gptkit"]}
        for slot, name in [
            ("model.position", "learned"), ("model.mask", "causal"), ("model.mask", "sliding_window"),
        ]
    ]  # fmt: skip


def test_a_plugin_is_on_record_with_its_version_and_source(tmp_path: Path) -> None:
    config = {**CONFIG, "model": {"layers": {"0": {"position": "rotary"}}}}
    parts = create(config, [], tmp_path).environment()["parts"]
    assert [(p["slot"], p["name"], p["kind"]) for p in parts] == [("model.position", "rotary", "folder")]
    assert parts[0]["package"] == "gptkit-rotary"
    assert parts[0]["version"]
    assert len(parts[0]["source_sha256"]) == 64


def test_git_tells_the_commit_and_whether_files_differ(tmp_path: Path) -> None:
    assert environment.git(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@y"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    told = environment.git(tmp_path)
    assert told is not None
    assert len(told["commit"]) == 40
    assert not told["dirty"]
    (tmp_path / "file").write_text("2")
    assert environment.git(tmp_path) == {**told, "dirty": True}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("my run", "my-run"), ("../../etc", "etc"), ("a/b", "a-b"), ("", "nano"), (None, "nano"), ("..", "gpt"),
        ("é=ü,1", "é-ü-1"), ("x" * 99, "x" * 40), ("-rf", "rf"), ("\n", "gpt"),
    ],
)  # fmt: skip
def test_a_name_becomes_one_plain_folder(tmp_path: Path, name: str | None, word: str) -> None:
    run = create({"name": name, "model": {"preset": "nano"}}, [], tmp_path / "runs")
    time, middle, suffix = run.path.name[:15], run.path.name[16:-5], run.path.name[-4:]
    assert middle == word
    assert time.replace("-", "").isdecimal()
    assert int(suffix, 16) >= 0
    assert run.path.parent == tmp_path / "runs"


def test_a_folder_that_is_there_is_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_directory.secrets, "token_hex", lambda n: "0000")
    monkeypatch.setattr(run_directory, "_TIME", "20260101-000000")
    made(tmp_path)
    with pytest.raises(RunError, match="File exists"):
        made(tmp_path)


def test_many_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    runs: list[Run] = []
    threads = [threading.Thread(target=lambda: runs.append(made(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.path for run in runs}) == 8


def test_the_root_comes_from_the_config(tmp_path: Path) -> None:
    assert (
        create({**CONFIG, "run_root": str(tmp_path / "deep" / "er")}).path.parent == tmp_path / "deep" / "er"
    )


def test_a_config_that_cannot_be_built_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.position"):
        made(tmp_path, model={"position": "fancy"})
    assert not (tmp_path / "runs").exists()


def test_a_refusal_at_any_point_leaves_no_run(tmp_path: Path) -> None:
    made(tmp_path)
    names = faults.FULL
    count = len(faults.operations(lambda: made(tmp_path), names))
    for at in range(1, count + 1):
        before = sorted(os.listdir(tmp_path / "runs"))

        def refuse(n: int, name: str, arguments: tuple, at: int = at) -> None:
            if n == at:
                raise OSError(28, "No space left on device")

        with faults.watched(refuse, names), pytest.raises(RunError, match="the disk is full"):
            made(tmp_path)
        assert sorted(os.listdir(tmp_path / "runs")) == before


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    run = made(tmp_path)
    run.write_json(
        "result.json", {"status": "ok", "val_loss": math.nan, "list": [math.inf, 1], "path": tmp_path}
    )
    assert run.result() == {"status": "ok", "val_loss": None, "list": [None, 1], "path": str(tmp_path)}
    count = len(faults.operations(lambda: run.write_json("result.json", {"n": 0})))
    for at in range(1, count + 1):
        assert faults.killed_at(at, lambda at=at: run.write_json("result.json", {"n": at}))
        assert run.result() in ({"n": at}, {"n": at - 1})
        run.write_json("result.json", {"n": at})
    before = sorted(os.listdir(run.path))
    with pytest.raises(TypeError):
        run.write_json("result.json", {"n": object()})
    assert sorted(os.listdir(run.path)) == before


def test_the_latest_is_the_one_made_last_whatever_the_times_of_files(tmp_path: Path) -> None:
    runs = [made(tmp_path) for _ in range(6)]
    for index, run in enumerate(runs):
        os.utime(run.path, (2e9 - index, 2e9 - index))
    assert find("latest", tmp_path / "runs").path == runs[-1].path
    older = tmp_path / "runs/20200101-000000-try-ffff"
    runs[-1].path.rename(older)
    os.utime(older, (3e9, 3e9))
    assert find("latest", tmp_path / "runs").path == runs[-2].path


def test_a_run_being_made_or_just_begun_does_not_hide_the_others(tmp_path: Path) -> None:
    trained, begun = made(tmp_path), made(tmp_path)
    trained.checkpoints.save(1, {}, {})
    (tmp_path / "runs/99990101-000000-next-0000").mkdir()
    (tmp_path / "runs/.hidden").mkdir()
    (tmp_path / "runs/notes.txt").write_text("")
    assert find("latest", tmp_path / "runs").path == begun.path
    assert find("latest", tmp_path / "runs", loadable=True).path == trained.path


def test_runs_are_found_by_path_and_by_a_part_of_their_name(tmp_path: Path) -> None:
    one, two = made(tmp_path, name="rotary-a"), made(tmp_path, name="rotary-b")
    root = tmp_path / "runs"
    assert find(one.path).path == one.path
    assert find(str(one.path)).path == one.path
    assert find("rotary-b", root).path == two.path
    assert find(one.path.name, root).path == one.path
    with pytest.raises(RunError, match=r"'rotary' stands for 2 runs: .*rotary-b.*Give more of the name"):
        find("rotary", root)
    with pytest.raises(RunError, match=rf"no run 'rotari-a' in .*Nearest: .*{one.path.name}"):
        find("rotari-a", root)
    with pytest.raises(RunError, match=r"is no run directory: it has no config.json"):
        find(root, root)


def test_where_there_are_no_runs_it_says_how_to_make_one(tmp_path: Path) -> None:
    for spec in ("latest", "x"):
        with pytest.raises(RunError, match=r"no runs in .* yet. Make one with: gptkit train"):
            find(spec, tmp_path / "none")
    made(tmp_path)
    with pytest.raises(RunError, match=r"None of the 1 runs in .* holds weights yet"):
        find("latest", tmp_path / "runs", loadable=True)


def test_status_follows_a_run_through_its_life(tmp_path: Path) -> None:
    run = made(tmp_path)
    assert run.status == "new"
    with run.checkpoints.exclusive():
        assert Run(run.path).status == "running"
    assert run.status == "lost"
    run.write_json("result.json", {"status": "stopped"})
    assert run.status == "stopped"
    with run.checkpoints.exclusive():
        assert Run(run.path).status == "running"


def test_the_store_keeps_what_the_config_says(tmp_path: Path) -> None:
    assert made(tmp_path, trainer={}).checkpoints.keep == 2
    assert isinstance(made(tmp_path).checkpoints, CheckpointStore)


def test_a_missing_plugin_is_named_with_its_version(tmp_path: Path) -> None:
    run = made(tmp_path)
    told, config = run.environment(), run.config()
    config["model"]["position"] = {"name": "fancy", "strength": 3}
    told["parts"] = [
        {"slot": "model.position", "name": "fancy", "package": "gptkit-fancy", "version": "0.1"},
        {"slot": 3, "name": [], "package": None},
        "nonsense",
    ]
    run.write_json("config.json", config)
    run.write_json("env.json", told)
    with pytest.raises(
        ConfigError, match=r"needs model.position=fancy, provided by gptkit-fancy 0.1; install it"
    ):
        run.config()
    told["parts"] = [
        {"slot": "model.position", "name": "fancy", "package": "x; rm -rf ~", "version": "\x1b[31m"}
    ]
    run.write_json("env.json", told)
    with pytest.raises(ConfigError) as error:
        run.config()
    assert "rm -rf" not in str(error.value)
    assert "Available:" in str(error.value)


def test_a_directory_that_brings_its_own_plugin_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone steps into a model directory from elsewhere and loads it; `./plugins` is searched there."""
    run = made(tmp_path)
    (run.path / "plugins").mkdir()
    (run.path / "plugins/evil.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
        "from gptkit.registry import register\n"
        '@register("model.position", "evil")\nclass Evil:\n    """Evil."""\n    def __init__(self, shape): ...\n'
    )
    config = run.config()
    config["model"]["position"] = {"name": "evil"}
    run.write_json("config.json", config)
    monkeypatch.chdir(run.path)
    registry.refresh()
    try:
        assert "evil" in registry.names("model.position")
        with pytest.raises(PluginError, match="inside the model directory itself"):
            Run(".").config()
    finally:
        monkeypatch.undo()
        registry.refresh()
    assert not (tmp_path / "ran").exists()


BAD_JSON = {
    "a key twice": (b'{"seed": 1, "seed": 2}', "the key 'seed' stands there twice"),
    "NaN": (b'{"seed": NaN}', "NaN is no number"),
    "infinity": (b'{"seed": -Infinity}', "-Infinity is no number"),
    "too large a float": (b'{"seed": 1e999}', "the number 1e999 is too large"),
    "too large an int": (b'{"seed": ' + b"9" * 5000 + b"}", "is too large"),
    "too deep": (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
    "too long": (b'{"x": "' + b"y" * 2_000_000 + b'"}', "at most 1,048,576 are expected"),
    "not UTF-8": (b'{"name": "\xff"}', "not UTF-8 at byte 10"),
    "half a character": (b'{"name": "\\ud800"}', "surrogate"),
    "cut off": (b'{"seed": 1', "not JSON at line 1, column 11"),
    "empty": (b"", "not JSON at line 1, column 1"),
    "a list": (b"[]", "holds a list"),
    "a BOM": (b"\xef\xbb\xbf{}", "not JSON"),
}


@pytest.mark.parametrize("kind", BAD_JSON)
def test_a_config_is_strict_json(tmp_path: Path, kind: str) -> None:
    data, said = BAD_JSON[kind]
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(RunError) as error:
        Run(tmp_path).config()
    assert said in str(error.value)
    assert str(tmp_path / "config.json") in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["../config.json", "..", "", "a/b", "/etc/hostname"])
def test_only_names_in_the_folder_are_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="no plain name"):
        made(tmp_path).read_json(name)


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    run = made(tmp_path)
    (run.path / "config.json").rename(tmp_path / "elsewhere.json")
    (run.path / "config.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(RunError, match=r"symbolic link, .* cp -rL"):
        run.config()
    (run.path / "config.json").unlink()
    os.mkfifo(run.path / "config.json")
    with pytest.raises(RunError, match="not a plain file"):
        run.config()


def test_a_file_that_turns_into_a_link_while_it_is_looked_at_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="symbolic link"):
        files.open_plain(tmp_path / "link")


def test_a_folder_above_may_be_a_link(tmp_path: Path) -> None:
    run = made(tmp_path)
    (tmp_path / "link").symlink_to(run.path)
    assert Run(tmp_path / "link").config() == run.config()
    assert Run(tmp_path / "link").name == run.path.name


def test_a_tokenizer_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    class Broken:
        def save(self, folder: Path) -> None:
            (folder / "part").write_text("x")
            raise OSError(28, "No space left on device")

    class Good:
        def save(self, folder: Path) -> None:
            (folder / "tokenizer.json").write_text("{}")

    run = made(tmp_path)
    before = sorted(os.listdir(run.path))
    with pytest.raises(RunError, match="the disk is full"):
        run.save_tokenizer(Broken())  # type: ignore[arg-type]
    assert sorted(os.listdir(run.path)) == before
    run.save_tokenizer(Good())  # type: ignore[arg-type]
    run.save_tokenizer(Broken())  # type: ignore[arg-type]  # one is there: nothing to do
    assert os.listdir(run.path / "tokenizer") == ["tokenizer.json"]


def test_folders_are_made_to_last(tmp_path: Path) -> None:
    synced: list[str] = []
    real = files.sync_directory
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "sync_directory", lambda path: (synced.append(path.name), real(path)))
        files.make_directory(tmp_path / "a/b")
    assert synced == [tmp_path.name, "a"]


FACE = """
import sys
import gptkit
assert gptkit.__version__
assert {"build", "compose", "load", "save", "register", "validate", "errors"} <= set(dir(gptkit))
problems = gptkit.validate({"model": {"position": "fancy"}, "sead": 1})
assert [p.key for p in problems] == ["model.position", "sead"], problems
assert issubclass(gptkit.errors.ConfigError, gptkit.errors.UserError)
assert callable(gptkit.register)
import gptkit.run
gptkit.run.find
try:
    gptkit.lode
except AttributeError as error:
    assert "load" in str(error)
heavy = {"torch", "hydra", "omegaconf", "lightning", "wandb", "tiktoken", "numpy", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""

NAMES = """
import importlib, sys
module = importlib.import_module("gptkit.load")  # first the module, then the function of its name
import gptkit
assert gptkit.load is module.load, gptkit.load
from gptkit import load, build, save
assert (load, build, save) == (module.load, module.build, module.save)
from gptkit.load import load as again
assert again is load
"""


@pytest.mark.parametrize("code", [FACE, NAMES], ids=["light", "functions stay functions"])
def test_the_public_face(code: str) -> None:
    told = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
