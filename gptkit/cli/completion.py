"""`gptkit completion`: what the Tab key offers."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from gptkit.errors import GptkitError, UserError, did_you_mean

SUMMARY = "print a script that completes commands, parts and keys"
USAGE = """\
gptkit completion bash|zsh|fish

  bash   echo 'source <(gptkit completion bash)' >> ~/.bashrc
  zsh    echo 'source <(gptkit completion zsh)' >> ~/.zshrc
  fish   gptkit completion fish > ~/.config/fish/completions/gptkit.fish
"""
_BASH = """\
_gptkit() {
    local line="${COMP_LINE:0:COMP_POINT}" word
    COMPREPLY=()
    word="${line##* }"
    local skip=""
    [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]] && skip="${word%%"${word##*=}"}"
    while IFS= read -r candidate; do
        COMPREPLY+=("${candidate#"$skip"}")
    done < <(gptkit completion query "$line" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -o nospace -F _gptkit gptkit
"""
_ZSH = "autoload -Uz bashcompinit && bashcompinit\n" + _BASH
_FISH = """\
complete -c gptkit -f -a '(gptkit completion query (commandline -cp) 2>/dev/null)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run(args: list[str]) -> int:
    """Print a shell's script, or answer the question that the script asks.

    Raises:
        UserError: the shell is not known.
    """
    if args[:1] == ["query"]:
        try:
            sys.stdout.write("".join(f"{word}\n" for word in candidates(" ".join(args[1:]))))
        except GptkitError:
            return 1
        return 0
    if len(args) != 1 or args[0] not in _SCRIPTS:
        shell = args[0] if args else ""
        raise UserError(
            f"gptkit completion {shell}: {did_you_mean(shell, _SCRIPTS) or 'one of bash, zsh, fish'}"
        )
    print(_SCRIPTS[args[0]], end="")
    return 0


def candidates(line: str) -> list[str]:
    """What may stand for the last word of a command line; needs neither torch nor Hydra."""
    from gptkit.cli import verbs

    words = line.split(" ")
    last = words[-1]
    if len(words) <= 2:
        return sorted(verb for verb in verbs() if verb.startswith(last))
    verb = words[1]
    if verb in {"train", "show", "config"}:
        return sorted(word for word in _config_words(last) if word.startswith(last))
    if verb == "components":
        from gptkit import registry

        return sorted(name for name in registry.SLOTS if name.startswith(last))
    return []


def _config_words(last: str) -> Iterable[str]:
    """Groups with their options once `=` is typed, short names, and keys."""
    groups = _groups()
    short: dict[str, list[str]] = {}
    for group in groups:
        short.setdefault(group.rsplit("/", 1)[-1], []).append(group)
    names = {**groups, **{name: groups[found[0]] for name, found in short.items() if len(found) == 1}}
    if "=" in last:
        name = last.partition("=")[0]
        return [f"{name}={option}" for option in names.get(name, [])]
    return [f"{name}=" for name in [*names, *_keys()]]


def _groups() -> dict[str, list[str]]:
    """Groups and their options from the names of files and parts alone."""
    from gptkit import registry
    from gptkit.composing.tree import conf_dir

    found: dict[str, set[str]] = {}
    for folder in [conf_dir(), *(path for _, path in registry.catalogue().conf_dirs)]:
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group != "." and not file.stem.startswith("_"):
                found.setdefault(group, set()).add(file.stem)
    for slot in registry.SLOTS.values():
        found.setdefault(slot.group, set()).update(registry.names(slot.name))
    return {group: sorted(options) for group, options in found.items() if options}


def _keys() -> Iterable[str]:
    """Every key of the settings, and `resume`."""
    from gptkit import schema

    for section, cls in schema.SECTIONS.items():
        for name in schema.options_of(cls):
            yield f"{section}.{name}" if section else name
    yield "resume"
