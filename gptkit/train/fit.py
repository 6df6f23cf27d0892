"""Train a run from its config to its result."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from gptkit.errors import GptkitError, RunError
from gptkit.train import strategies
from gptkit.train.defaults import completed
from gptkit.train.quick_import import import_lightning
from gptkit.train.signals import StopSignals
from gptkit.train.world import World

if TYPE_CHECKING:
    from gptkit.run import Run
    from gptkit.train.job import Job
    from gptkit.train.reporter import Reporter


def fit(run: Run, *, quiet: bool = False) -> dict[str, Any]:
    """Train a run in this process, or this process's share of it under torchrun or srun.

    A run that has checkpoints goes on from its newest one, exactly as if it had never stopped. SIGINT
    and SIGTERM end it after a step, saved and resumable.

    Args:
        run: its folder holds `config.json`, and receives all that the run leaves.
        quiet: show notices alone.

    Returns:
        What `result.json` holds. `status` is `finished`, or `stopped` with the `signal`; on all
        processes but the first these are all there is.

    Raises:
        ConfigError: the config and the devices do not go together, or the run's checkpoints were
            trained with another model or text.
        NonFiniteError: the loss or the gradient was no number; the weights before it were saved.
    """
    world = World.of()
    config = completed(run.config())
    if world.size == 1 and strategies.processes(config) > 1:
        raise RunError("This run asks for several devices; start it with gptkit.train.launch.launch(run).")
    strategies.check(config, world)
    strategies.set_threads(config, world)
    import_lightning()
    from gptkit.run import RESULT, TOKENIZER
    from gptkit.text.shards import prepare
    from gptkit.train.job import Job
    from gptkit.train.reporter import Reporter

    signals = StopSignals()
    job = Job.of(run, config, prepare(config, run.path / TOKENIZER), world, lambda: signals.received)
    if world.is_first:
        with run.checkpoints.exclusive():
            (run.path / RESULT).unlink(missing_ok=True)  # that of an earlier part of the run
            run.save_tokenizer(job.dataset.tokenizer)
            result = _report(Reporter(job, quiet), job, signals)
    else:
        result = _train(job, signals, None)
    job.agreement.leave()
    for callback in job.callbacks.values():
        callback.finish(result)
    return result


def _report(reporter: Reporter, job: Job, signals: StopSignals) -> dict[str, Any]:
    """Train, and write the result however it ends."""
    try:
        ended = _train(job, signals, reporter)
    except BaseException as error:
        reporter.finish(_failed(error))
        raise
    return reporter.finish(ended)


def _train(job: Job, signals: StopSignals, reporter: Reporter | None) -> dict[str, Any]:
    """Have Lightning run the loop; returns how it ended."""
    from gptkit.train.module import TrainingModule
    from gptkit.train.session import Session

    module = TrainingModule(
        job.make_model,
        job.part("optimizer").build,
        job.make_batches,
        job.part("objective"),
        job.part("schedule"),
        share=job.share,
        seed=job.config["seed"],
        max_steps=job.max_steps,
        gradient_clip=job.config["trainer"]["gradient_clip"],
        agreement=job.agreement,
        end_of_text=job.dataset.tokenizer.end_of_text,
    )
    session = Session(job, signals, reporter)
    trainer = strategies.make_trainer(job.config, job.world, [session])
    with signals.unchanged():
        try:
            trainer.fit(module)
        except SystemExit:  # what Lightning makes of a Ctrl-C before the first step
            raise KeyboardInterrupt from None
    if session.stopped_by:
        return {"status": "stopped", "signal": session.stopped_by}
    return {"status": "finished"}


def _failed(error: BaseException) -> dict[str, Any]:
    if isinstance(error, KeyboardInterrupt):
        return {"status": "stopped", "signal": int(signal.SIGINT)}
    told = str(error) if isinstance(error, GptkitError) else f"{type(error).__name__}: {error}"
    return {"status": "failed", "error": told}
