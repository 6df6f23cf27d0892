"""From words on a command line to a whole config; only this and `composing.sweeps` know Hydra.

    cfg = compose(["model=gpt2", "position=rotary", "model.n_heads=8"])

Hydra decides which YAML files the choices lead to and in what order they lie over one another, and reads
the values; gptkit reads the words and the files, and has `gptkit.schema` check what comes out, so that one
answer tells all that is wrong. What comes out is plain data: every key there, every reference resolved.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import hydra
from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptkit import schema
from gptkit.composing import whole, yaml_file
from gptkit.composing.defaults import REFERENCE, Survey
from gptkit.composing.explain import explain, known_keys, meant
from gptkit.composing.guard import stale
from gptkit.composing.plain import Config, at, leaves, merge, nested, without
from gptkit.composing.tree import OVERLAYS, ConfFile, Tree, conf_dir
from gptkit.composing.words import Unreadable, Unsafe, Words, read_words
from gptkit.composing.yaml_file import YamlError
from gptkit.errors import ConfigError, Problem, did_you_mean

__all__ = ["compose", "conf_dir", "expand", "read_value"]

_ENVIRONMENT = re.compile(r"\$\{oc\.env:[A-Za-z_]\w*(?:,[^${}]*)?\}")
_COLON = re.compile(  # after a key without a blank, where YAML would read one word: {3::4:{position:none}}
    r"""(?P<quoted>"(?:\\.|[^"\\])*"|'[^']*')|(?<=[{,])(?P<key>\s*[A-Za-z_]\w*):(?=\S)|:(?=[{\[])"""
)
_NO_MATCH = re.compile(r"Could not override '([^']+)'")
_TWICE = re.compile(r"^([\w/]+) appears more than once")
_MOST_DEPTH = 50
_LOCK = threading.RLock()


def compose(
    overrides: Iterable[str] = (), verb: str = "train", *, config_dir: str | os.PathLike[str] | None = None
) -> Config:
    """A config, resolved to plain data and checked.

    Args:
        overrides: such as `["model=gpt2", "position=rotary", "model.n_heads=8"]`. `config=FILE` takes up a
            YAML file of the user's, or the `config.json` of a run.
        verb: what to start from: `conf/train.yaml`, or another file beside it.
        config_dir: a folder with more YAML, laid out as `conf/`; `./conf` is looked at by itself.

    Raises:
        ConfigError: something is misspelt, of the wrong type, or does not fit; carries every problem.
    """
    tree = Tree(config_dir)
    words, survey = read_words(overrides, tree, read_value), Survey(tree)
    for file in _starting_points(verb, tree, words):
        survey.read(file)
    told = [*words.problems, *survey.problems]
    config, files, more = _compose_files(verb, survey, words)
    if config is not None:
        told += more + _finish(config, files, words, survey, everything=verb == "train")
    elif not told:
        told = more  # else Hydra stumbled over what is told already
    if told or config is None:
        raise ConfigError(dict.fromkeys(told))
    return whole.in_order(schema.normalise(config))


def expand(overrides: Iterable[str], *, config_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """The overrides with short names written in full: `position=rotary` -> `model/position=rotary`."""
    return read_words(overrides, Tree(config_dir), read_value).full


def read_value(key: str, text: str) -> Any:
    """Plain data of the text after `=`, by Hydra's grammar: numbers, lists, groups of keys, quoted text.

    What stands in braces or brackets may be YAML as well, with its blanks or without:
    `{3::4: {position: none}}`, `{3::4:{position:none}}`.

    Raises:
        Unreadable: it is neither, stands for several runs, or asks for more than `${a.key}` or an
            environment variable, `${oc.env:NAME}`.
    """
    quoted = _in_quotes(key, text)
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
        sweep, value = override.is_sweep_override(), _plain(override.value())
    except (HydraException, RecursionError, ValueError, TypeError):
        sweep, value = False, _flow(text)
        if value is None:
            raise Unreadable(f"{text!r} cannot be read.\n{quoted}") from None
    if sweep:
        raise Unreadable(f"{text!r} stands for several values.\nWrite a list as {key}=[{text}]. {quoted}")
    for where, leaf in leaves(value, key):
        if not isinstance(leaf, (str, int, float, bool, dict, list, type(None))):
            raise Unreadable(f"{text!r} is no plain value.\n{quoted}")
        if isinstance(leaf, str) and "${" in _ENVIRONMENT.sub("", REFERENCE.sub("", leaf)):
            told = "refers to more than a key, ${model.d_model}, or a variable, ${oc.env:HOME}."
            raise Unsafe(f"{where + ' ' if where != key else ''}{told}\nWrite the value itself.")
    return value


def _in_quotes(key: str, text: str) -> str:
    """What to type in place of a value that cannot be read."""
    if not text.lstrip().startswith(("{", "[")):
        return f"Put it in quotes: '{key}=\"{text}\"'."
    like = "[a, b]" if text.lstrip().startswith("[") else "{a: 1, b: [x, y]}"
    like = "{3::4: {position: none}}" if key == "model.layers" else like
    return f"Close every brace and bracket, and put the whole word in single quotes, as in '{key}={like}'."


def _flow(text: str) -> Any:
    """YAML in braces or brackets; None if it is not that."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return yaml_file.parse(_COLON.sub(lambda met: met["quoted"] or f"{met['key'] or ''}: ", text))
    except YamlError:
        return None


def _plain(value: Any) -> Any:
    """Keys as text, as in YAML."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


def _starting_points(verb: str, tree: Tree, words: Words) -> Iterator[ConfFile]:
    """The files that a config is composed from: the verb's, and each chosen one."""
    primary = tree.find("", verb)
    if primary is None:
        offered = tree.options("")
        raise ConfigError([Problem(verb, "no such config.", did_you_mean(verb, offered))])
    yield primary
    for choice in (*words.choices.values(), *words.added):
        for option in choice.options:
            file = tree.find(choice.group, option)
            if file is not None:
                yield file


def _compose_files(
    verb: str, survey: Survey, words: Words
) -> tuple[Config | None, list[ConfFile], list[Problem]]:
    """The chosen files laid over one another, without what was meant for parts that are not chosen."""
    try:
        order = _in_order(verb, survey, words)
    except AssertionError:  # Hydra met a line that it takes for granted
        told = "its defaults list cannot be read."
        return None, [], [Problem(verb, told, "Write each line as '- override /group: option'.")]
    except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
        return None, [], [_hydra_problem(error)]
    for choice in words.added:
        order += [
            (survey.tree.files[choice.group][o], choice.group.replace("/", ".")) for o in choice.options
        ]
    typed = {*words.choices, *(choice.group for choice in words.added)}
    dropped, problems = stale([file for file, _ in order], typed, survey.tree)
    problems += [
        _clash(*survey.tree.clashes[file.name]) for file, _ in order if file.name in survey.tree.clashes
    ]
    survey.lost |= {p.key.split("=")[0].replace("/", ".").removesuffix(".name") for p in problems}
    config: Config = {}
    for file, package in order:
        merge(config, nested(package, without(file.content, [("defaults",), *dropped.get(file.name, ())])))
    return config, [file for file, _ in order], problems


def _finish(
    config: Config, files: Sequence[ConfFile], words: Words, survey: Survey, *, everything: bool
) -> list[Problem]:
    """Set the values, write everything out, resolve it and check it, in place; returns what is wrong."""
    told = list(whole.apply(config, words.settings))
    whole.fill_layers(config, survey.options_of)
    config = _replace(config, whole.without_missing(config))
    whole.complete(config, everything=everything)
    keys = known_keys(config)
    resolved, unresolved = _resolved(config, keys, survey.tree)
    _replace(config, resolved)
    whole.in_type(config)
    found = [*schema.validate(config), *(whole.unchosen(config) if everything else ())]
    said = {problem.key for problem in unresolved}
    told += unresolved + [problem for problem in found if not schema.stems_from(problem, said)]
    order = sorted(files, key=lambda file: file.group not in OVERLAYS)
    told = explain(told, config, words.settings, order, survey.tree)
    lost, guessed = words.lost | survey.lost, words.guessed | survey.guessed
    told = [p for p in told if p.key not in guessed]
    return [
        p
        for p in told
        if p.unsafe or not any(p.key == key or p.key.startswith(f"{key}.") or not key for key in lost)
    ]


def _replace(config: Config, content: Mapping[str, Any]) -> Config:
    held = dict(content)
    config.clear()
    config.update(held)
    return config


def _resolved(config: Config, keys: Sequence[str], tree: Tree) -> tuple[Config, list[Problem]]:
    """The config with what its references stand for, and those that stand for nothing."""
    problems: list[Problem] = []
    root = OmegaConf.create(config)

    def value_of(node: Any, key: Any, where: str, depth: int) -> Any:
        try:
            value = node[key]
            if depth > _MOST_DEPTH:
                raise RecursionError
        except RecursionError:
            problems.append(Problem(where, "refers to itself.", "Write the value."))
        except OmegaConfBaseException:
            problems.append(_unresolved(where, at(config, where), keys, tree))
        else:
            return walk(value, where, depth + 1)
        return None

    def walk(node: Any, where: str, depth: int) -> Any:
        if isinstance(node, DictConfig):
            return {key: value_of(node, key, f"{where}.{key}" if where else str(key), depth) for key in node}
        if isinstance(node, ListConfig):
            return [value_of(node, index, f"{where}[{index}]", depth) for index in range(len(node))]
        return node

    return walk(root, "", 0), list({p.key: p for p in problems}.values())


def _unresolved(where: str, raw: Any, keys: Sequence[str], tree: Tree) -> Problem:
    """Why a reference stands for nothing: no such variable, no such key, or a circle."""
    variables = [name for name in re.findall(r"oc\.env:(\w+)", str(raw)) if name not in os.environ]
    if variables:
        told = f"there is no environment variable {variables[0]}."
        return Problem(where, told, f"Set it, or give a default: ${{oc.env:{variables[0]},value}}.")
    unknown = [key for key in re.findall(r"\$\{([\w.]+)\}", str(raw)) if key not in keys]
    if not unknown:
        return Problem(where, f"{raw!r} refers to itself.", "Write the value.")
    match = meant(unknown[0], keys, tree)
    hint = f"Did you mean ${{{match}}}?" if match else ""
    return Problem(where, f"{raw!r} refers to a key that is not there.", hint)


def _hydra_problem(error: Exception) -> Problem:
    """What Hydra could not put together, without its advice, which is for programs of its own."""
    text = str(error.__cause__ or error).strip() or type(error).__name__
    first = text.splitlines()[0].rstrip(".")
    missing = _NO_MATCH.search(text)
    if missing:
        hint = "A file that chooses it must come before; begin a model's defaults with '- _slots'."
        return Problem(missing[1], "nothing chooses it, so it cannot be changed.", hint)
    twice = _TWICE.search(text)
    if twice:
        return Problem(twice[1], "is chosen twice.", f"Write '- override /{twice[1]}: …' the second time.")
    return Problem(str(getattr(error, "full_key", "") or ""), f"{first}.")


def _clash(one: ConfFile, other: ConfFile) -> Problem:
    told = f"stands in two places: {one.where()} ({one.owner}) and {other.where()} ({other.owner})."
    return Problem(one.name, told, "Rename one of them.")


def _in_order(verb: str, survey: Survey, words: Words) -> list[tuple[ConfFile, str]]:
    """Ask Hydra which files the choices lead to, each with the key it stands below; later ones go on top.

    A program around this one that uses Hydra too keeps its own state.

    Raises:
        HydraException, OmegaConfBaseException, ValueError: the choices do not fit together.
    """
    overrides = [f"{'' if c.group in survey.declared else '+'}{c}" for c in words.choices.values()]
    old = {} if _minor() >= (1, 4) else {"version_base": "1.3"}
    with _LOCK:
        Plugins.instance().register(_Files)
        Plugins.instance().register(_SearchPath)
        around, base = GlobalHydra.instance().hydra, version.getbase()
        GlobalHydra.instance().clear()
        _Files.survey = survey
        try:
            with hydra.initialize_config_dir(config_dir=str(conf_dir()), **old):
                loader = GlobalHydra.instance().config_loader()
                chosen = loader.compute_defaults_list(verb, overrides, RunMode.RUN).defaults
        finally:
            _Files.survey = None
            GlobalHydra.instance().hydra = around
            version.VersionBase.instance().version_base = base
    taken = [entry for entry in chosen if entry.config_path and not entry.config_path.startswith("hydra/")]
    packages = ["" if entry.package in (None, "_global_") else str(entry.package) for entry in taken]
    files = [survey.tree.at(str(entry.config_path)) for entry in taken]
    return [(file, package) for file, package in zip(files, packages, strict=True) if file is not None]


def _minor() -> tuple[int, ...]:
    return tuple(int(part) for part in hydra.__version__.split(".")[:2])


class _Files(ConfigSource):
    """Gives Hydra the defaults lists of gptkit's files: read, mended and checked by gptkit."""

    survey: ClassVar[Survey | None] = None

    @staticmethod
    def scheme() -> str:
        return "gptkit"

    @property
    def _tree(self) -> Tree:
        assert self.survey is not None
        return self.survey.tree

    def load_config(self, config_path: str) -> ConfigResult:
        file = self._tree.at(config_path)
        assert file is not None
        assert self.survey is not None
        content = {"defaults": self.survey.mended[file.name]} if file.name in self.survey.mended else {}
        return ConfigResult(self.provider, "gptkit://", OmegaConf.create(content), {"package": file.header})

    def is_group(self, config_path: str) -> bool:
        path = config_path.strip("/")
        return any(group == path or group.startswith(f"{path}/") for group in self._tree.files)

    def is_config(self, config_path: str) -> bool:
        return self._tree.at(config_path) is not None

    def available(self) -> bool:
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return self._tree.options(config_path.strip("/"))


class _SearchPath(SearchPathPlugin):
    """Puts gptkit's files in the place of the folder that Hydra was started with, in gptkit's own use of it."""

    def manipulate_search_path(self, search_path: Any) -> None:
        if _Files.survey is not None:
            for element in search_path.get_path():
                if element.provider == "main":
                    element.path = "gptkit://conf"
