"""Search by Optuna: each variant has a study of its own, all with the same sampler and as many trials.

The studies lie in `optuna.log` in the sweep's folder, a journal of JSON lines that Optuna's own tools read.
Values come from the tree-structured Parzen estimator (Bergstra, Bardenet, Bengio and Kégl 2011), seeded by
the trial's number: the first trials are the same for every variant, and the same again after a stop.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptkit.compare.spaces import Space, Tuning, Values
from gptkit.errors import RunError, UserError

JOURNAL = "optuna.log"


def library() -> Any:
    """Optuna, which tells warnings alone.

    Raises:
        UserError: it is missing.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "optuna":
            raise
        raise UserError(
            "sweeper=optuna needs Optuna, which is not installed. Run: pip install 'gptkit[optuna]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class OptunaSearch:
    """Asks Optuna, and tells it what came of it.

    Args:
        tuning: what was asked.
        folder: the sweep's.
        steps: of a whole trial.

    Raises:
        UserError: Optuna is missing.
        RunError: its journal cannot be used.
    """

    def __init__(self, tuning: Tuning, folder: Path, steps: int) -> None:
        self.optuna, self.tuning, self.steps = library(), tuning, steps
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self._studies: dict[str, Any] = {}
        try:
            self._storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{folder / JOURNAL} cannot be used: {type(error).__name__}: {error}.") from error

    def propose(self, label: str, index: int) -> Values:
        trial = self._trial(label, index)
        return {space.key: _suggested(space, trial) for space in self.tuning.spaces}

    def hopeless(self, label: str, index: int, losses: Mapping[int, float]) -> bool:
        if self.tuning.pruner == "none":
            return False
        trial = self._trial(label, index)
        known = self._study(label).get_trials(deepcopy=False)[index].intermediate_values
        for step, loss in losses.items():
            if step not in known and step < self.steps:
                trial.report(loss if math.isfinite(loss) else math.inf, step)
                if trial.should_prune():
                    return True
        return False

    def tell(self, label: str, index: int, loss: float | None, *, pruned: bool = False) -> None:
        states = self.optuna.trial.TrialState
        state = states.PRUNED if pruned else states.FAIL if loss is None else states.COMPLETE
        trial = self._trial(label, index)
        self._study(label).tell(
            trial.number, loss if state == states.COMPLETE else None, state=state, skip_if_finished=True
        )

    def _trial(self, label: str, index: int) -> Any:
        """The trial of this number; all before it are asked for if they never were."""
        study = self._study(label)
        known = study.get_trials(deepcopy=False)
        while len(known) <= index:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some of its options are called experimental
                study.sampler = self.optuna.samplers.TPESampler(
                    seed=len(known), n_startup_trials=max(3, self.tuning.trials // 3), constant_liar=True
                )
            trial = study.ask()
            for space in self.tuning.spaces:
                _suggested(space, trial)
            known = study.get_trials(deepcopy=False)
        return self.optuna.trial.Trial(study, known[index]._trial_id)

    def _study(self, label: str) -> Any:
        if label not in self._studies:
            known = label in self.optuna.get_all_study_names(self._storage)
            begin = self.optuna.load_study if known else self.optuna.create_study
            self._studies[label] = begin(study_name=label, storage=self._storage, pruner=self._pruner())
        return self._studies[label]

    def _pruner(self) -> Any:
        pruners = self.optuna.pruners
        if self.tuning.pruner == "median":
            return pruners.MedianPruner(n_startup_trials=max(2, self.tuning.trials // 4))
        if self.tuning.pruner == "hyperband":
            return pruners.HyperbandPruner(min_resource=max(1, self.steps // 9), max_resource=self.steps)
        return pruners.NopPruner()


def _suggested(space: Space, trial: Any) -> str:
    """The value of one key; the one that was suggested before, if any was."""
    if space.choices:
        return str(trial.suggest_categorical(space.key, space.choices))
    if space.whole:
        return str(trial.suggest_int(space.key, int(space.low), int(space.high), log=space.log))
    value = trial.suggest_float(space.key, float(space.low), float(space.high), log=space.log)
    text = f"{value:.4g}"
    return text if float(space.low) <= float(text) <= float(space.high) else repr(value)
