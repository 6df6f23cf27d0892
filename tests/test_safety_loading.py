"""Loading a stranger's model directory runs no code, opens nothing outside it, and says what is wrong."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gptkit
import malice

WATCH = r"""
import json, os, sys
import gptkit
from gptkit import registry, schema
from gptkit.errors import GptkitError

jobs, report = json.loads(open(sys.argv[1]).read()), sys.argv[2]
watched = {
    "exec", "compile", "import", "open", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate", "os.chmod",
    "os.listdir", "os.scandir", "os.putenv", "subprocess.Popen", "pickle.find_class", "marshal.loads",
    "socket.__new__", "socket.connect", "socket.getaddrinfo", "urllib.Request", "ctypes.dlopen",
    "shutil.copyfile", "shutil.move", "shutil.rmtree", "shutil.unpack_archive", "webbrowser.open",
    "code.__new__", "builtins.input", "cpython.run_command", "cpython.run_file", "os.startfile", "pty.spawn",
}
allowed_root, events = None, []

def hook(event, arguments):
    if allowed_root is None or event not in watched:
        return
    if event in ("open", "os.listdir", "os.scandir"):
        path, writes = arguments[0], event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if isinstance(path, int):
            return
        real = os.path.abspath(os.fsdecode(path if path is not None else "."))
        if not writes and (real == allowed_root or real.startswith(allowed_root + os.sep)):
            return
    events.append((event, str(arguments)[:200]))

sys.addaudithook(hook)

def attempt(work, root):
    global allowed_root, events
    events, said, kind = [], "", "loaded"
    allowed_root = os.path.abspath(root)
    try:
        work()
    except GptkitError as error:
        said, kind = str(error), type(error).__name__
    except BaseException as error:
        said, kind = f"{type(error).__name__}: {error}", "TRACEBACK"
    finally:
        allowed_root = None
    return {"kind": kind, "said": said, "events": events}

for _, place in jobs["warm"]:  # what is imported lazily is imported now, by good and by bad directories
    try:
        gptkit.load(place)
    except GptkitError:
        pass
for slot in registry.SLOTS:  # what a config may name is read from our own source
    for name in registry.names(slot):
        registry.find(slot, name).declaration
for cls in schema.SECTIONS.values():
    schema.options_of(cls)
results = {name: attempt(lambda: gptkit.load(place), place) for name, place in jobs["watch"]}

import pickle, subprocess, socket
controls = {
    "pickle": lambda: pickle.loads(b"cos\ngetpid\n."),
    "exec": lambda: exec("1"),
    "open": lambda: open("/etc/hostname"),
    "write": lambda: open(os.path.join(jobs["root"], "written"), "w"),
    "process": lambda: subprocess.run(["true"]),
    "socket": lambda: socket.socket(),
    "import": lambda: __import__("this_is_not_there"),
}
results |= {f"control {name}": attempt(work, jobs["root"]) for name, work in controls.items()}
open(report, "w").write(json.dumps(results))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What happened to each directory, loaded in a process under watch."""
    root = tmp_path_factory.mktemp("malice")
    sent = [(name, str(place), harmless) for name, place, harmless in malice.traps(root)]
    good = [("model", str(root / "template")), ("run", str(next((root / "template-runs").iterdir())))]
    good += [(name, str(malice.good_model(root / name, name))) for name in ("byte", "word", "gpt2", "bpe")]
    warm = [*good, ("none", str(root))]
    watch = [*good, *((name, place) for name, place, _ in sent)]
    (root / "jobs.json").write_text(
        json.dumps({"warm": warm, "watch": watch, "root": str(root / "template")})
    )
    command = [sys.executable, "-c", WATCH, str(root / "jobs.json"), str(root / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((root / "report.json").read_text())
    results["harmless"] = [name for name, _, harmless in sent if harmless]
    results["sent"] = [name for name, *_ in sent]
    results["marks"] = [
        str(path) for path in root.rglob("*") if path.name in ("mark", "evil", "outside.json")
    ]
    return results


def test_the_watch_sees_what_it_is_there_for(told: dict[str, Any]) -> None:
    for name in ("pickle", "exec", "open", "write", "process", "socket", "import"):
        assert told[f"control {name}"]["events"], name


def test_good_directories_load(told: dict[str, Any]) -> None:
    for name in ("model", "run", "byte", "word", "gpt2", "bpe"):
        assert told[name] == {"kind": "loaded", "said": "", "events": []}


def test_nothing_runs_and_nothing_outside_is_opened(told: dict[str, Any]) -> None:
    assert len(told["sent"]) > 100
    seen = {name: told[name]["events"] for name in told["sent"] if told[name]["events"]}
    assert not seen
    assert told["marks"] == []


def test_every_trap_is_refused_with_an_error_of_ours(told: dict[str, Any]) -> None:
    kinds = {name: told[name]["kind"] for name in told["sent"]}
    harmless = set(told["harmless"])
    assert {name: told[name]["said"][:300] for name, kind in kinds.items() if kind == "TRACEBACK"} == {}
    assert [name for name, kind in kinds.items() if kind == "loaded" and name not in harmless] == []
    assert {kinds[name] for name in harmless} == {"loaded"}
    assert all(20 < len(told[name]["said"]) < 3000 for name in kinds if name not in harmless)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("_target_ in position", "model.position._target_: a config names parts, it never names code."),
        ("_target_ in deep", "data.path[0][0][0].x[0]._target_"),
        ("${oc.env:HOME} at the top", "an unresolved interpolation: '${oc.env:HOME}'"),
        ("the part 'os.system'", "there is no model.position named 'os.system'"),
        ("weights are a pickle, plain", "It looks like a pickle, which can run code when loaded"),
        ("weights are a pickle, zipped", "It looks like a pickle"),
        ("only a pickle", "m.pt may be a pickle"),
        ("config.json is a link", "is a symbolic link, which may lead anywhere"),
        ("model.safetensors is a link", "is a symbolic link, which may lead anywhere"),
        ("checkpoints is a link", "is a symbolic link, which may lead anywhere"),
        ("tokenizer is a link", "is a symbolic link, which may lead anywhere"),
        ("a tokenizer's file is a pipe", "it is not a plain file"),
        ("a config that is huge", "3,000,012 bytes long, and at most 1,048,576 are expected"),
        ("a config that is NaN", "NaN is no number that a config or state may hold"),
        ("n_layers is 1000000000", "asks for 1,000,000,000 layers"),
    ],
)
def test_the_reason_is_named(told: dict[str, Any], name: str, said: str) -> None:
    assert said in told[name]["said"]


FORBIDDEN_CALLS = {"eval", "exec", "__import__", "compile"}
FORBIDDEN_NAMES = {
    "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pydoc", "locate",
    "instantiate", "get_class", "get_method", "get_object", "load_from_checkpoint", "unsafe_load",
}  # fmt: skip


def test_the_source_holds_no_way_to_run_what_is_read() -> None:
    """No eval, pickle or instantiate anywhere in the package; `torch.load` with weights_only alone."""
    package = Path(gptkit.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            where = f"{path.relative_to(package)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", None)}
                found += [f"{where} imports {name}" for name in modules & FORBIDDEN_NAMES]
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Name) and called.id in FORBIDDEN_CALLS | FORBIDDEN_NAMES:
                found.append(f"{where} calls {called.id}")
            if isinstance(called, ast.Attribute) and called.attr in FORBIDDEN_NAMES:
                found.append(f"{where} calls {called.attr}")
            if ast.unparse(called) == "torch.load":
                safe = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True"
                found += [] if safe else [f"{where} calls torch.load without weights_only=True"]
            if ast.unparse(called) in {"np.load", "numpy.load"}:
                unsafe = any(
                    k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords
                )
                found += [f"{where} lets numpy unpickle"] if unsafe else []
    assert found == []
