"""Every combination of the values that vary: a grid, or pairs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gptkit.compare.results import Point
from gptkit.errors import ConfigError, Problem, did_you_mean


@dataclass
class Variant:
    """What varies in some points, and the words that make it; the seed is not among them."""

    values: dict[str, str]
    words: list[str]

    @property
    def label(self) -> str:
        return Point(0, self.values, 0, []).label


def variants(
    words: Sequence[str],
    pairs: Sequence[Sequence[str]],
    config_dir: str | os.PathLike[str] | None = None,
    *,
    alone: bool = False,
) -> tuple[list[Variant], list[Problem]]:
    """Every combination of the values that vary, and what is wrong with the words.

    Args:
        words: of configs; those with several values vary.
        pairs: groups of keys whose values go together, in place of a grid.
        config_dir: a folder with more YAML.
        alone: whether one variant is enough: nothing varies in a search.
    """
    from gptkit.composing.sweeps import spread

    swept: dict[int, list[str]] = {}
    problems: list[Problem] = []
    for place, word in enumerate(words):
        try:
            values = spread(word, config_dir=config_dir) if "=" in word else []
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        if len(values) > 1:
            swept[place] = values
            twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
            problems += [Problem(key_of(word), f"{value} is named twice.") for value in twice]
    problems += _set_again(words, swept, config_dir)
    if not swept and not problems:
        if alone:
            return [Variant({"tuned": "best"}, list(words))], []
        hint = "Give a key several values: gptkit compare position=rotary,learned"
        problems.append(Problem("", "Nothing differs between the runs.", hint))
    axes = list(_axes(words, swept, pairs, problems))
    found = []
    for chosen in itertools.product(*axes) if not problems else ():
        values = {place: value for axis in chosen for place, value in axis}
        found.append(
            Variant(
                {key_of(words[place]): value.strip("'\"") for place, value in sorted(values.items())},
                [
                    f"{word.partition('=')[0]}={values[place]}" if place in values else word
                    for place, word in enumerate(words)
                ],
            )
        )
    return found, problems


def _set_again(
    words: Sequence[str], swept: Mapping[int, list[str]], config_dir: str | os.PathLike[str] | None
) -> Iterator[Problem]:
    """What varies and is given once more, under whichever of its names: the last word would win alone."""
    from gptkit.composing.tree import Tree

    short = Tree(config_dir).short_names() if len(words) > len(swept) or len(swept) > 1 else {}

    def full(word: str) -> str:
        key = key_of(word)
        groups = short.get(key, [])
        return (groups[0] if len(groups) == 1 else key).replace("/", ".")

    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(full(word), []).append(place)
    for several in places.values():
        varying = [place for place in several if place in swept]
        if varying and len(several) > 1:
            told = "varies twice." if len(varying) > 1 else "varies, and is set as well."
            yield Problem(key_of(words[varying[0]]), told, "Name all its values in one word.")


def _axes(
    words: Sequence[str],
    swept: Mapping[int, list[str]],
    pairs: Sequence[Sequence[str]],
    problems: list[Problem],
) -> Iterator[list[tuple[tuple[int, str], ...]]]:
    """The directions of the grid: each swept word, or several that go in pairs."""
    left = dict(swept)
    by_key = {key_of(words[place]): place for place in swept}
    paired: dict[int, list[int]] = {}
    for names in pairs:
        unknown = [name for name in names if by_key.get(name) not in left]
        problems += [
            Problem("zip", f"{name!r} does not vary here.", did_you_mean(name, by_key)) for name in unknown
        ]
        places = [by_key[name] for name in names if name not in unknown]
        counts = {len(left[place]) for place in places}
        if len(counts) > 1:
            told = ", ".join(f"{key_of(words[place])} has {len(left[place])}" for place in places)
            problems.append(Problem("zip", f"pairs need equal numbers of values; {told}."))
        elif len(places) > 1:
            paired[min(places)] = places
    joined = {place for places in paired.values() for place in places}
    for place, values in left.items():
        if place in paired:
            yield list(zip(*([(p, value) for value in left[p]] for p in paired[place]), strict=True))
        elif place not in joined:
            yield [((place, value),) for value in values]


def key_of(word: str) -> str:
    """The key of a `key=value` word, without a sign."""
    return word.partition("=")[0].lstrip("+~").strip()
