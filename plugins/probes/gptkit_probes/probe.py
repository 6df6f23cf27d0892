"""What all probes share: lengths, and prompts that are kept from training."""

from __future__ import annotations

import hashlib
import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from gptkit.errors import ConfigError, DataError, Problem
from gptkit.text.batches import stable_hash
from gptkit.text.examples import Asked, Example, Examples

_TRIES = 1000  # prompts drawn for one that is, or is not, held out


class Probe(Examples):
    """A task whose examples have a length, drawn from a fixed seed.

    `train` and `val` have lengths from `min_length` to `max_length`, each as often; `length_N` has N
    alone. Whether a prompt is held out follows from the prompt, so that no example that is asked about
    was trained on, at whichever length.

    Args:
        min_length: the least length of examples that are trained on.
        max_length: the greatest.
        test_lengths: that are asked about, longer ones too.
        examples: that are trained on.
        test_examples: in each other split.
        seed: decides the examples; a run's own seed leaves them be.

    Raises:
        ConfigError: there is no such length, or nothing to draw.
    """

    def __init__(
        self,
        *,
        min_length: int,
        max_length: int,
        test_lengths: list[int],
        examples: int,
        test_examples: int,
        seed: int,
    ) -> None:
        lengths = sorted(set(test_lengths))
        self.min_length, self.max_length, self.test_lengths = min_length, max_length, lengths
        self.examples, self.test_examples, self.seed = examples, test_examples, seed
        self.require(min_length >= 1, "min_length", min_length, "at least 1")
        self.require(max_length >= min_length, "max_length", max_length, f"at least min_length={min_length}")
        self.require(all(n >= 1 for n in lengths), "test_lengths", lengths, "numbers of at least 1")
        self.require(examples >= 1, "examples", examples, "at least 1")
        self.require(test_examples >= 1, "test_examples", test_examples, "at least 1")

    @abstractmethod
    def draw(self, length: int, rng: random.Random) -> Example:
        """An example of some length, from `rng.random()` alone: it alone stays the same in every Python."""

    def require(self, holds: bool, option: str, given: object, expected: str) -> None:
        """Refuse an option's value.

        Raises:
            ConfigError: it does not hold.
        """
        if not holds:
            raise ConfigError([Problem(f"data.{option}", f"it is {given}.", f"Give {expected}.")])

    def splits(self, held_out: float) -> Mapping[str, Asked]:
        """`train`; `val`, of the same lengths; `length_N` for each of `test_lengths`.

        Where nothing is held out, only lengths that are not trained on are asked about.
        """
        lengths = range(self.min_length, self.max_length + 1)
        asked = {"train": Asked(list(self._drawn("train", lengths, self.examples, held_out, False)))}
        asked["val"] = Asked([])
        if held_out:
            asked["val"] = Asked(list(self._drawn("val", lengths, self.test_examples, held_out, True)))
        for length in self.test_lengths:
            trained = length in lengths
            if trained and not held_out:
                continue
            drawn = self._drawn("test", [length], self.test_examples, held_out, True if trained else None)
            asked[f"length_{length}"] = Asked(list(drawn), length, trained)
        return asked

    def _drawn(
        self, split: str, lengths: Sequence[int], count: int, held_out: float, apart: bool | None
    ) -> Iterator[Example]:
        """Examples whose prompts are held out, or not, or either way."""
        rng = random.Random(stable_hash(type(self).__name__, self.seed, split, *lengths[:1]))
        for _ in range(count):
            length = lengths[int(rng.random() * len(lengths))]
            for _ in range(_TRIES):
                example = self.draw(length, rng)
                if apart is None or apart == self._is_held_out(example.prompt, held_out):
                    yield example
                    break
            else:
                kept = "held out" if apart else "left to train on"
                raise DataError(
                    f"data: of prompts of length {length} none is {kept} with data.val_fraction={held_out}. "
                    "Take longer ones, or another fraction."
                )

    def _is_held_out(self, prompt: str, share: float) -> bool:
        return stable_hash("held out", self.seed, prompt) < share * (1 << 62)

    def fingerprint(self) -> str:
        """A digest of all that decides the examples."""
        told = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return hashlib.sha256(f"{type(self).__name__} {sorted(told.items())}".encode()).hexdigest()


def pick(rng: random.Random, many: str, count: int) -> str:
    """`count` characters, each any of `many`."""
    return "".join(many[int(rng.random() * len(many))] for _ in range(count))


def pick_apart(rng: random.Random, many: str, count: int) -> str:
    """`count` different characters of `many` (Fisher and Yates 1938)."""
    left = list(many)
    for place in range(count):
        other = place + int(rng.random() * (len(left) - place))
        left[place], left[other] = left[other], left[place]
    return "".join(left[:count])
