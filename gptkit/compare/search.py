"""Who chooses the values of the next trial: a list that is the same for every variant, or Optuna."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from gptkit.compare.spaces import Tuning, Values


class Search(Protocol):
    """Chooses what each variant tries. Trials of a variant are numbered from 0."""

    def propose(self, label: str, index: int) -> Values:
        """The values of a trial; the same again where it was asked for before."""
        ...

    def hopeless(self, label: str, index: int, losses: dict[int, float]) -> bool:
        """Whether a trial may as well end now.

        Args:
            label: the variant.
            index: the trial.
            losses: its validation loss by step, so far.
        """
        ...

    def tell(self, label: str, index: int, loss: float | None, *, pruned: bool = False) -> None:
        """A trial has ended; `loss` is None where it has none that is a number."""
        ...


class Grid:
    """The same values for every variant, and all trials to their end."""

    def __init__(self, tuning: Tuning) -> None:
        self.values = tuning.values

    def propose(self, label: str, index: int) -> Values:
        return dict(self.values[index])

    def hopeless(self, label: str, index: int, losses: dict[int, float]) -> bool:
        return False

    def tell(self, label: str, index: int, loss: float | None, *, pruned: bool = False) -> None:
        pass


def search(tuning: Tuning, folder: Path, steps: int) -> Search:
    """The search that was asked for.

    Args:
        tuning: what was asked.
        folder: the sweep's; Optuna keeps its journal there.
        steps: of a whole trial.

    Raises:
        UserError: Optuna is missing.
    """
    if tuning.sweeper == "grid":
        return Grid(tuning)
    from gptkit.compare.optuna_search import OptunaSearch

    return OptunaSearch(tuning, folder, steps)
