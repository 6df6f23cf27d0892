"""Several processes for real, over gloo: they train what one process trains, stop together and resume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from gptkit.errors import UserError
from gptkit.run import Run
from gptkit.train.fit import fit
from gptkit.train.launch import WorkerError, launch
from small_runs import change, make, rows, same, tensors, text, trained, wait_for

ONE = {"trainer__micro_batch_size": 4, "optimizer__lr": 1e-3, "schedule__warmup_steps": 0}
# A bias on keys changes nothing, so its gradient is noise around zero, of which Adam makes whole steps.
ATTENTION = {"model__attention": {"name": "multi_head", "bias": False, "dropout": 0.1}}
SAME: dict[str, Any] = {**ONE, **ATTENTION}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("distributed")
    text(found)
    return found


@pytest.fixture(scope="module")
def alone(folder: Path) -> Run:
    """One process that takes two micro-batches a step, as two processes take one each."""
    return trained(folder, **SAME, trainer__checkpoint_every=1, trainer__keep_checkpoints=50)


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def after(seconds_or_what: Any, number: int) -> threading.Thread:
    """Send this process a signal once something holds."""

    def wait() -> None:
        wait_for(seconds_or_what)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_ddp_stops_together_resumes_and_is_bitwise_one_process(folder: Path, alone: Run) -> None:
    long = {**SAME, "trainer__max_steps": 100_000, "trainer__log_every": 2}
    run = make(folder, **long, devices=2, trainer__strategy="ddp")
    thread = after(lambda: rows(run), signal.SIGINT)
    assert launch(run) == 130
    thread.join()
    stop = run.checkpoints.steps()[-1]
    assert run.status == "stopped"
    assert rows(run)[-1]["step"] == stop > 0
    assert (run.path / "logs" / "rank-1.log").read_text("utf-8") == ""
    one = trained(folder, **{**long, "trainer__max_steps": stop})
    assert same(tensors(run, stop), tensors(one, stop))
    told, expected_rows = ({row["step"]: row for row in rows(of) if "loss" in row} for of in (run, one))
    assert len(told.keys() & expected_rows.keys()) >= 2
    for step in told.keys() & expected_rows.keys():
        assert told[step]["loss"] == pytest.approx(expected_rows[step]["loss"], abs=1e-6)
        assert told[step]["tokens"] == expected_rows[step]["tokens"]
    more = {"trainer__max_steps": stop + 3, "trainer__micro_batch_size": 2}  # each adds two up
    assert launch(change(run, **more)) == 0
    fit(change(one, **more))
    assert apart(tensors(run), tensors(one)) < 1e-6
    result, expected = run.result(), one.result()
    assert result is not None
    assert expected is not None
    assert result["val_loss"] == pytest.approx(expected["val_loss"], abs=1e-6)
    assert result["devices"] == 2


def test_fsdp_reaches_one_process_and_goes_on_in_one(folder: Path, alone: Run) -> None:
    run = make(
        folder, **SAME, devices=2, trainer__strategy="fsdp", trainer__max_steps=6,
        trainer__sample_tokens=30, trainer__eval_every=3,
    )  # fmt: skip
    assert launch(run) == 0
    assert apart(tensors(run), tensors(alone, 6)) < 1e-6
    ours, theirs = rows(run)[0], rows(alone)[0]
    assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-5)
    assert (run.path / "samples.txt").read_text("utf-8").startswith("=== step 6 ===\nthe")
    fit(change(run, devices=1, trainer__strategy="auto", trainer__max_steps=12))
    assert apart(tensors(run), tensors(alone)) < 1e-6
    result = run.result()
    assert result is not None
    assert result["val_loss"] == pytest.approx(alone.result()["val_loss"], abs=1e-5)  # type: ignore[index]


def test_a_worker_that_fails_is_quoted_and_not_its_launcher(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make(folder, devices=2, trainer__strategy="ddp", optimizer__lr=1e30, trainer__max_steps=40)
    with pytest.raises(Exception, match=r"Step \d+: the (loss|gradient).*optimizer\.lr") as caught:
        launch(run)
    assert not isinstance(caught.value, WorkerError)
    assert run.status == "failed"
    noise = capfd.readouterr()
    assert "ChildFailedError" not in noise.err + noise.out
    assert len((noise.err + noise.out).splitlines()) < 10


TORCHRUN = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from small_runs import make
    from gptkit.train.launch import launch, shared
    run = shared(lambda: make(Path({folder!r}), devices="auto", trainer__max_steps=3))
    print("ran", run.path.name)
    sys.exit(launch(run))
    """
)


def test_under_an_outer_torchrun_one_run_is_made(folder: Path) -> None:
    script = folder / "script.py"
    script.write_text(TORCHRUN.format(tests=str(Path(__file__).parent), folder=str(folder)), "utf-8")
    before = set((folder / "runs").iterdir()) if (folder / "runs").exists() else set()
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    made = set((folder / "runs").iterdir()) - before
    assert len(made) == 1
    run = Run(made.pop())
    assert done.stdout.count(f"ran {run.path.name}") == 2
    result = run.result()
    assert result is not None
    assert (result["devices"], result["strategy"], result["steps"]) == (2, "ddp", 3)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_thread_of_the_group_is_left_when_training_ends(tmp_path: Path) -> None:
    """One that lets go of a tensor while the interpreter ends would abort the process."""
    script = f"""
        import os
        from pathlib import Path
        import torch
        from gptkit.train.agreement import Agreement

        def threads() -> list[str]:
            return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]

        rank = int(os.environ["RANK"])
        torch.distributed.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=rank, world_size=2)
        agreement = Agreement(lambda: 0)
        agreement.connect()
        held = {{"group": torch.distributed.group.WORLD}}
        held["held"] = held
        del held
        assert agreement.total([rank + 1.0]) == [3.0]
        assert any("gloo" in thread for thread in threads()), threads()
        agreement.leave()
        assert not torch.distributed.is_initialized()
        assert not any("gloo" in thread for thread in threads()), threads()
        assert agreement.total([5.0]) == [5.0]
    """
    code = textwrap.dedent(script)
    both = [
        subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "RANK": str(rank)})
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=100) for process in both] == [0, 0]


def test_one_process_does_not_pretend_to_be_two(folder: Path) -> None:
    run = make(folder, devices=2)
    with pytest.raises(UserError, match="launch"):
        fit(run)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "micro"), [(2, 8), (4, 4)])
def test_tensor_parallel_reaches_one_process(folder: Path, devices: int, micro: int) -> None:
    """Two devices share each layer; of four, two by two."""
    same_batch = {**SAME, "trainer__micro_batch_size": micro, "trainer__max_steps": 6}
    run = make(
        folder, **same_batch, devices=devices, trainer__strategy="fsdp", trainer__tensor_parallel=2,
        trainer__sample_tokens=30,
    )  # fmt: skip
    assert launch(run) == 0
    one = trained(folder, **same_batch)
    assert apart(tensors(run), tensors(one)) < 5e-6
    for key in ("tokens", "parameters"):
        assert run.result()[key] == one.result()[key]  # type: ignore[index]
    for key in ("val_loss", "val_bits_per_byte", "train_loss"):
        assert run.result()[key] == pytest.approx(one.result()[key], abs=1e-6)  # type: ignore[index]
    fit(change(run, devices=1, trainer__strategy="auto", trainer__tensor_parallel=1, trainer__max_steps=9))
    fit(change(one, trainer__max_steps=9))
    assert apart(tensors(run), tensors(one)) < 5e-6
