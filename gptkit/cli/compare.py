"""`gptkit compare`: train variants side by side, and say what that proves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gptkit.cli.arguments import split_flags, take_key
from gptkit.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from gptkit.compare.launcher import Launcher
    from gptkit.compare.plan import Plan
    from gptkit.compare.results import Results

SUMMARY = "train variants with several seeds and report which is better"
USAGE = """\
gptkit compare key=one,other [key=value ...] [seed=1,2,3] [-q] [--dry-run]
               [--json] [--config-dir DIR]
gptkit compare resume=DIR
gptkit compare runs='runs/*'

  gptkit compare experiment=positions            a ready one, five minutes
  gptkit compare position=sinusoidal,learned,rotary trainer.max_steps=500
  gptkit compare model.n_heads=2,4,8 seed=1,2,3,4,5 budget=tokens:1e6
  gptkit compare position=rotary,alibi attention=multi_head,gated
                                                 a grid: four variants
  gptkit compare optimizer=adamw,muon optimizer.lr=1e-3,2e-2 \\
                 zip=optimizer,optimizer.lr      pairs: two variants
  gptkit compare feed_forward=mlp,swiglu match=parameters baseline=mlp
  gptkit compare optimizer=adamw,muon 'tune=optimizer.lr:[1e-4,3e-2]'
                                                 each with its own best rate
  gptkit compare resume=latest                   run what is missing
  gptkit compare runs='runs/*'                   report on runs that are there

Each variant is trained with each seed, on the same batches; all are composed
and checked before the first one trains.
Values: one,other   choice(one,other)   range(1,6)   glob(rotary*)

  seed=1,2,3        the seeds
  zip=KEY,KEY       pair the values of these keys, in place of a grid
  budget=tokens:1e6 what each may use; also flops:1e12, or seconds:60
                    (trainer.max_steps ends it too)
  match=parameters  adjust model.d_ff until each variant has as many parameters
                    as the first
  baseline=VARIANT  measure the others against this one
  metric=NAME       val_loss, val_bits_per_byte, train_loss or best_val_loss;
                    val_error or length_24_error where data are questions with
                    answers
  tune=KEY:[low,high]
                    first try values of a key, the same for each variant, and
                    go on with each one's best; also KEY:a,b,c; trials=5 tries,
                    on a seed of their own: tune_seed=1000
  sweeper=optuna    have Optuna choose what to try; pruner=median, hyperband or
                    none
  lengths=0.5,1,2,4 parts and multiples of the context to measure at; or none
  name=WORD         a word for the folder, which is made in run_root
  jobs=auto         how many trainings at once
  hydra/launcher=NAME
                    have submitit_slurm, submitit_local, joblib or ray do the
                    jobs; hydra.launcher.KEY=...

  -q, --quiet       show failures and the verdict alone
  --dry-run         compose and check all, and list them
  --json            print results.json, or with --dry-run sweep.json

Ctrl-C has each job save a checkpoint; resume=DIR goes on.
Exit code 3: some jobs failed.
"""


def run(args: list[str]) -> int:
    """Compare; returns the exit code: 0, 3 where some jobs failed, 130 where a signal stopped them.

    Raises:
        UserError: the words make no sweep, or there is nothing to report on.
    """
    flags, words = split_flags(args, ["-q", "--quiet", "--dry-run", "--json"], ["--config-dir"])
    quiet, as_json = "-q" in flags or "--quiet" in flags, "--json" in flags
    resume, words = take_key(words, "resume")
    given, words = take_key(words, "runs")
    from gptkit.compare.launcher import take

    launcher, words = (None, words) if given is not None else take(words)
    if resume is not None or given is not None:
        told, jobs = _of_report(words, with_jobs=resume is not None)
        if given is not None:
            from gptkit.compare.gather import gather_runs

            metric, baseline = told.get("metric"), told.get("baseline")
            return _report(gather_runs(given), quiet=quiet, as_json=as_json, metric=metric, baseline=baseline)
        return _run(_sweep(str(resume)), jobs, launcher, quiet=quiet, as_json=as_json, **told)
    from gptkit.compare.plan import plan
    from gptkit.compare.ready import expanded

    made = plan(expanded(words), config_dir=flags.get("--config-dir"))
    made.check(read_text=launcher is None)
    if "--dry-run" in flags:
        _list(made, as_json=as_json)
        return 0
    return _run(made.create(), made.asked.jobs, launcher, quiet=quiet, as_json=as_json)


def _run(
    folder: Path,
    jobs: int | None,
    launcher: Launcher | None,
    *,
    quiet: bool,
    as_json: bool,
    **told: str | None,
) -> int:
    """Run what is missing of a sweep, and report on all of it."""
    from gptkit.compare import jobs as work
    from gptkit.compare.gather import gather

    if not quiet:
        print(f"Comparing in {folder}", file=sys.stderr)
    code = work.run(folder, jobs=jobs, quiet=quiet, launcher=launcher)
    if code == work.INTERRUPTED:
        print(f"Stopped. To go on: gptkit compare resume={folder}", file=sys.stderr)
        return code
    results = gather(folder)
    if code and not any(run.status == "finished" for run in results.runs):
        print(f"No job finished. Their logs: {folder}/jobs/*/log.txt", file=sys.stderr)
        return code
    sweep = results.sweep
    told = {"metric": sweep.get("metric"), "baseline": sweep.get("baseline"), **told}
    return _report(results, quiet=quiet, as_json=as_json, log=True, **told) or code


def _report(
    results: Results,
    *,
    quiet: bool,
    as_json: bool,
    log: bool = False,
    metric: str | None = None,
    baseline: str | None = None,
) -> int:
    """Work out what the results say, write it, and show it; with `log`, to the runs' loggers as well."""
    from gptkit.compare import honesty, pairing, report, sinks, statistics, tuning

    told = sinks.start(results, quiet=quiet) if log else None

    comparison = statistics.compare(results, metric, baseline)
    cautions = [*honesty.warnings(results, comparison), *tuning.cautions(results)]
    proofs = pairing.proofs(results)
    results.folder.mkdir(parents=True, exist_ok=True)
    place = report.write(results, comparison, cautions, proofs)
    if told is not None:
        sinks.finish(told, results)
    if as_json:
        print((results.folder / "results.json").read_text("utf-8"))
        return 0
    from gptkit.compare.screen import show

    show(comparison, cautions, proofs, place, quiet=quiet)
    return 0


def _of_report(words: list[str], *, with_jobs: bool) -> tuple[dict[str, str], int | None]:
    """The words that may stand beside `resume=` and `runs=`.

    Raises:
        ConfigError: others stand there, or they cannot be read.
    """
    from gptkit.compare.asked import read, split
    from gptkit.errors import ConfigError, Problem

    allowed = ("metric", "baseline", *(("jobs",) if with_jobs else ()))
    own, rest = split(words)
    asked, problems = read(own)
    strange = [*rest, *(f"{key}={texts[-1]}" for key, texts in own.items() if key not in allowed)]
    told = f"cannot be changed now. What may be given: {', '.join(allowed)}."
    problems += [Problem(word, told) for word in strange]
    if problems:
        raise ConfigError(problems)
    found = {"metric": asked.metric, "baseline": asked.baseline}
    return {key: value for key, value in found.items() if value is not None}, asked.jobs


def _sweep(spec: str) -> Path:
    """The folder of a sweep: by its path, a part of its name in `runs`, or `latest`.

    Raises:
        UserError: there is none, or more than one.
    """
    from gptkit.compare.results import SWEEP

    if spec != "latest" and (Path(spec) / SWEEP).is_file():
        return Path(spec)
    known = sorted((path.parent for path in Path("runs").glob(f"*/{SWEEP}")), reverse=True)
    if spec == "latest" and known:
        return known[0]
    found = [path for path in known if spec and spec in path.name]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(map(str, (found or known)[:5]))
    hint = f"There are: {listed}." if listed else "Make one with: gptkit compare position=rotary,learned"
    if not found and spec != "latest":
        hint = did_you_mean(spec, ["latest"]) or hint
    told = f"stands for {len(found)} sweeps" if found else "is no sweep's folder"
    raise UserError(f"resume={spec} {told}. {hint}")


def _list(made: Plan, *, as_json: bool) -> None:
    """Show the points of a plan."""
    if as_json:
        print(json.dumps(made.sweep(), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    from gptkit.compare.equal import sizes, tokens_per_step
    from gptkit.numbers import amount, counted

    seeds = made.asked.seeds
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("variant")
    for name in ("seeds", "parameters", "steps", "tokens", "operations"):
        table.add_column(name, justify="right")
    for point, config in zip(made.points, made.configs, strict=True):
        if point.seed != seeds[0]:
            continue
        size, steps = sizes(config), config["trainer"]["max_steps"]
        tokens = steps * tokens_per_step(config)
        numbers = [
            f"{size.parameters:,}",
            f"{steps:,}",
            amount(tokens),
            f"{size.flops_per_token * tokens:.3g}",
        ]
        table.add_row(point.label, ",".join(map(str, seeds)), *numbers)
    console = Console(highlight=False)
    console.print(table)
    tuning = made.asked.tuning
    if tuning:
        trials = tuning.trials * len(made.labels) * len(tuning.seeds)
        told = f"{counted(trials, 'trial')} first: {tuning.trials} of each variant, on seed "
        console.print(f"{told}{', '.join(map(str, tuning.seeds))}.")
        for values in tuning.values:
            console.print(f"  {' '.join(f'{key}={value}' for key, value in values.items())}", markup=False)
    jobs, variants = counted(len(made.points), "job"), counted(len(made.labels), "variant")
    each = " each" if len(made.labels) > 1 else ""
    console.print(f"{jobs}: {variants} with {counted(len(seeds), 'seed')}{each}. Nothing was run.")
