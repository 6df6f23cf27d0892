"""From words on a command line to a whole config; the only module that knows Hydra.

Hydra composes the YAML that is chosen; gptkit reads the words. `position=rotary` chooses a file of a
group (its full name is `model/position`), `model.n_heads=8` sets a value, and what comes out is plain
data that `gptkit.schema` has checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from gptkit import registry, schema
from gptkit.errors import ConfigError, GptkitError, Problem, did_you_mean, nearest
from gptkit.settings import RunSettings

_PLAIN_REFERENCE = re.compile(r"\$\{[\w.]+\}")
_MISSING = "???"


def compose(overrides: Iterable[str] = (), *, config_dir: str | Path | None = None) -> schema.Config:
    """A config, resolved to plain data and checked.

    Args:
        overrides: such as `["model=gpt2", "position=rotary", "model.n_heads=8"]`. `config=FILE` starts from
            a YAML file, or from the `config.json` of a run.
        config_dir: a folder with further YAML, laid out as `conf/`; `./conf` is looked at by itself.

    Raises:
        ConfigError: something is misspelt, of the wrong type, or does not fit; carries every problem.
    """
    words = read_words(overrides, config_dir)
    node, problems = _hydra(words, config_dir)
    if node is not None:
        plain, more = _plain(node, words.values)
        problems += more
        problems += [_in_full(problem) for problem in schema.validate(plain)] if not more else []
        if not problems:
            return schema.normalise(plain)
    raise ConfigError(_distinct(problems))


def expand(overrides: Iterable[str], config_dir: str | Path | None = None) -> list[str]:
    """The overrides with short names written in full: `position=rotary` -> `model/position=rotary`."""
    words = read_words(overrides, config_dir)
    return words.full


@dataclass
class Words:
    """A command line, understood.

    Attributes:
        groups: choices for Hydra, such as `model/position=rotary`.
        values: (key, value) in order; a value of `DELETE` takes the key away.
        full: every word in full.
        problems: what could not be understood.
    """

    groups: list[str] = field(default_factory=list)
    values: list[tuple[str, Any]] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


DELETE = object()


def read_words(overrides: Iterable[str], config_dir: str | Path | None = None) -> Words:
    """Tell choices of a group from values, and find what short names mean."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    parser, words, known = OverridesParser.create(), Words(), groups(config_dir)
    for word in overrides:
        try:
            override = parser.parse_override(word)
        except OverrideParseException:
            words.problems.append(
                Problem("", f"{word!r} cannot be read.", "Write key=value; quote values with special signs: 'a=\"b c\"'.")
            )
            continue
        _read_word(word, override, known, words)
    return words


def _read_word(word: str, override: Any, known: Mapping[str, list[str]], words: Words) -> None:
    key = override.key_or_group
    if override.is_sweep_override():
        words.problems.append(
            Problem(key, "several values for one run.", f"Give one, or a list: {key}=[{override.value_element_as_str}].")
        )
        return
    value = DELETE if override.is_delete() else override.value()
    if key == "config":
        _read_file(str(value), known, words)
        return
    group = _group(key, known, words, value)
    if group is None:
        words.values.append((key, value))
        words.full.append(word)
        return
    words.full.append(word.replace(key, group, 1))
    _choose(group, value, known[group], words)


def _group(key: str, known: Mapping[str, list[str]], words: Words, value: Any) -> str | None:
    """The group that a key means, or None where it sets a value."""
    if key in known:
        return key
    if "/" in key:
        hint = did_you_mean(key, known) or f"Groups: {', '.join(known)}."
        words.problems.append(Problem(key, "no such group.", hint))
        return None
    if "." in key:
        as_group = key.replace(".", "/")
        return as_group if as_group in known and not isinstance(value, dict) else None
    if key in schema.options_of(RunSettings):
        return None
    matches = [group for group in known if group.rsplit("/", 1)[-1] == key]
    if len(matches) == 1:
        return matches[0]
    if matches:
        words.problems.append(Problem(key, "may mean several groups.", f"Say which: {', '.join(matches)}."))
    return None


def _choose(group: str, value: Any, options: Sequence[str], words: Words) -> None:
    """Note a choice for Hydra, if its options are there."""
    if value is DELETE:
        words.groups.append(f"~{group}")
        return
    if value is None:
        words.groups.append(f"{group}=null")
        return
    chosen = value if isinstance(value, list) else [value]
    for option in chosen:
        if str(option) not in options:
            words.problems.append(_no_option(group, str(option), options))
            return
    text = f"[{','.join(map(str, chosen))}]" if isinstance(value, list) else str(value)
    words.groups.append(f"{group}={text}")


def _no_option(group: str, option: str, options: Sequence[str]) -> Problem:
    match = nearest(option, options)
    meant = f"Did you mean {group}={match}? " if match else ""
    broken = "".join(f" A plugin could not be read: {m}" for m in registry.catalogue().broken.values())
    return Problem(f"{group}={option}", "no such option.", f"{meant}Available: {', '.join(options)}.{broken}")


def _read_file(path: str, known: Mapping[str, list[str]], words: Words) -> None:
    """Take up a YAML or JSON file: parts become choices, so that nothing of an earlier choice is left."""
    from omegaconf import OmegaConf

    try:
        loaded: Any = OmegaConf.to_container(OmegaConf.create(Path(path).read_text("utf-8")), resolve=False)
    except OSError as error:
        words.problems.append(Problem(f"config={path}", f"cannot be read: {error.strerror}."))
        return
    except Exception as error:  # yaml's and OmegaConf's many kinds
        words.problems.append(Problem(f"config={path}", f"not valid YAML: {' '.join(str(error).split())}."))
        return
    if not isinstance(loaded, dict):
        words.problems.append(Problem(f"config={path}", "holds no keys."))
        return
    words.full.append(f"config={path}")
    _take(loaded, "", known, words)


def _take(node: Mapping[str, Any], prefix: str, known: Mapping[str, list[str]], words: Words) -> None:
    for name, value in node.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        slot = registry.SLOTS.get(key)
        if slot and slot.many:
            words.values.append((key, DELETE))
            words.values.append((key, schema.normal_part(slot, value)))
        elif slot and slot.name != "model" and isinstance(value, (str, Mapping)):
            part = schema.normal_part(slot, value)
            if isinstance(part.get("name"), str):
                _choose(slot.group, part["name"], known[slot.group], words)
            words.values += [(f"{key}.{option}", v) for option, v in part.items() if option != "name"]
        elif isinstance(value, Mapping) and key in schema.SECTIONS:
            _take(value, key, known, words)
        else:
            words.values.append((key, value))


def conf_dir() -> Path:
    """The folder of the project's own YAML: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise GptkitError("gptkit's conf/ folder is missing from this installation; install gptkit again.")


def search_path(config_dir: str | Path | None = None) -> list[tuple[str, Path]]:
    """(who, folder) of all YAML, in the order in which it is looked up.

    Raises:
        ConfigError: the same option stands in two folders, or `config_dir` is no folder.
    """
    path = [("gptkit", conf_dir()), *registry.catalogue().conf_dirs]
    local = Path(config_dir).expanduser() if config_dir else Path.cwd() / "conf"
    if config_dir and not local.is_dir():
        raise ConfigError([Problem("--config-dir", f"{config_dir} is no folder.")])
    if local.is_dir() and local.resolve() not in [folder.resolve() for _, folder in path]:
        path.append(("your configs", local))
    seen: dict[str, tuple[str, Path]] = {}
    for who, folder in path:
        for file in sorted(folder.rglob("*.yaml")):
            name = file.relative_to(folder).with_suffix("").as_posix()
            if name in seen:
                problem = f"stands in two folders: {seen[name][1]} ({seen[name][0]}) and {folder} ({who})."
                raise ConfigError([Problem(name, problem, "Rename one of them.")])
            seen[name] = (who, folder)
    return path


def groups(config_dir: str | Path | None = None) -> dict[str, list[str]]:
    """Every group and its options: YAML files, and registered parts that have none."""
    found: dict[str, set[str]] = {}
    for _, folder in search_path(config_dir):
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group != "." and not file.stem.startswith("_"):
                found.setdefault(group, set()).add(file.stem)
    for slot in registry.SLOTS.values():
        found.setdefault(slot.group, set()).update(registry.names(slot.name))
    return {group: sorted(options) for group, options in sorted(found.items())}


def _hydra(words: Words, config_dir: str | Path | None) -> tuple[Any, list[Problem]]:
    """Have Hydra compose the chosen files; a choice that fails is told, and left out."""
    import yaml
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    own, *others = search_path(config_dir)
    _store_generated(config_dir)
    listed = ",".join(f"'file://{folder}'" for _, folder in others)
    path = [f"hydra.searchpath=[{listed}]"] if others else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(own[1]), version_base="1.3"):
            return hydra_compose("train", overrides=[*path, *words.groups]), words.problems
    except yaml.YAMLError as error:
        return None, [*words.problems, _yaml_problem(error)]
    except (HydraException, OmegaConfBaseException) as error:
        return None, [*words.problems, _hydra_problem(error)]
    finally:
        GlobalHydra.instance().clear()


def _yaml_problem(error: Any) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}:{mark.line + 1}" if mark else "a YAML file"
    return Problem(where, f"not valid YAML: {getattr(error, 'problem', None) or error}.")


def _hydra_problem(error: Exception) -> Problem:
    missing = getattr(error, "missing_cfg_file", None)
    if missing:
        group, _, name = str(missing).rpartition("/")
        return _no_option(group, name, list(getattr(error, "options", None) or groups().get(group, [])))
    key = str(getattr(error, "full_key", "") or "")
    first = str(error).strip().splitlines()[0]
    return Problem(key, f"{first}." if not first.endswith(".") else first)


def _store_generated(config_dir: str | Path | None) -> None:
    """Give each part without a YAML file a node from its signature."""
    from hydra.core.config_store import ConfigStore

    written = {
        (file.parent.relative_to(folder).as_posix(), file.stem)
        for _, folder in search_path(config_dir)
        for file in folder.rglob("*.yaml")
    }
    store = ConfigStore.instance()
    for slot in registry.SLOTS.values():
        for name in registry.names(slot.name):
            if (slot.group, name) not in written:
                store.store(group=slot.group, name=name, node=generated(slot, name))


def generated(slot: registry.Slot, name: str) -> schema.Config:
    """A part's config from its signature: every option with its default.

    Raises nothing for a broken part: whoever chooses it is told by the schema.
    """
    try:
        declared = registry.find(slot.name, name).declaration.options
    except GptkitError:
        declared = ()
    options = {option.name: _MISSING if option.required else option.default for option in declared}
    return {name: options} if slot.many else {"name": name, **options}


def _plain(node: Any, values: Sequence[tuple[str, Any]]) -> tuple[schema.Config, list[Problem]]:
    """Set the values, then resolve references to other keys; anything else in `${}` is refused."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    OmegaConf.set_struct(node, False)
    problems = []
    for key, value in values:
        try:
            if value is DELETE:
                _delete(node, key)
            else:
                OmegaConf.update(node, key, value, merge=False, force_add=True)
        except (OmegaConfBaseException, AssertionError, TypeError, ValueError):
            problems.append(Problem(key, "no such key: what stands before the dot holds no keys."))
    raw: Any = OmegaConf.to_container(node, resolve=False)
    problems += list(_foreign(raw, ""))
    if problems:
        return {}, problems
    try:
        plain: Any = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", "") or "")
        return {}, [Problem(key, str(error).splitlines()[0] + ".")]
    return plain, list(_unset(plain, ""))


def _delete(node: Any, key: str) -> None:
    parent, _, last = key.rpartition(".")
    from omegaconf import OmegaConf

    place = OmegaConf.select(node, parent) if parent else node
    if place is not None and last in place:
        del place[last]


def _leaves(value: Any, key: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _leaves(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _leaves(entry, f"{key}[{index}]")
    else:
        yield key, value


def _foreign(value: Any, key: str) -> Iterable[Problem]:
    for where, leaf in _leaves(value, key):
        if isinstance(leaf, str) and "${" in _PLAIN_REFERENCE.sub("", leaf):
            yield Problem(where, f"{leaf!r} asks for more than another key's value.", "Write ${some.key}, or the value.")


def _unset(value: Any, key: str) -> Iterable[Problem]:
    for where, leaf in _leaves(value, key):
        if leaf == _MISSING:
            yield Problem(where, "needs a value.", f"Give one: {where}=…")


@lru_cache(maxsize=1)
def _all_keys() -> list[str]:
    """Every key that a settings section knows, in full: what a bare word may have meant."""
    keys = [f"{section}.{name}" for section, cls in schema.SECTIONS.items() if section for name in schema.options_of(cls)]
    return [*keys, *(slot.name for slot in registry.SLOTS.values())]


def _in_full(problem: Problem) -> Problem:
    """Where a bare word is no key, ask whether the last part of a longer one was meant."""
    if "." in problem.key or problem.message != "no such key.":
        return problem
    by_end = {key.rsplit(".", 1)[-1]: key for key in _all_keys()}
    match = by_end.get(problem.key) or by_end.get(nearest(problem.key, by_end) or "")
    top = nearest(problem.key, [*schema.options_of(RunSettings), *schema.SECTIONS])
    if match and (problem.key in by_end or not top):
        return Problem(problem.key, problem.message, f"Did you mean {match!r}?")
    return problem


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
