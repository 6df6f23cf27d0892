"""`gptkit completion`: what the Tab key offers."""

from __future__ import annotations

import sys

from gptkit.errors import UserError, did_you_mean

SUMMARY = "print a script that completes commands, parts and keys"
USAGE = """\
gptkit completion bash|zsh|fish

  bash   echo 'source <(gptkit completion bash)' >> ~/.bashrc
  zsh    echo 'source <(gptkit completion zsh)' >> ~/.zshrc
  fish   gptkit completion fish > ~/.config/fish/completions/gptkit.fish

Then gptkit train position=<Tab> offers position encodings, and
gptkit train model.n_<Tab> keys.
"""
_BASH = """\
_gptkit() {
    local line="${COMP_LINE:0:COMP_POINT}" candidate skip=""
    local word="${line##* }"
    # Bash cuts words at = and :, and wants what comes after the last of them.
    [[ "$COMP_WORDBREAKS" == *=* && "$word" == *=* ]] && skip="${word%"${word##*=}"}"
    [[ "$COMP_WORDBREAKS" == *:* && "${word#"$skip"}" == *:* ]] && skip="${word%"${word##*:}"}"
    COMPREPLY=()
    while IFS= read -r candidate; do
        COMPREPLY+=("${candidate#"$skip"}")
    done < <(command gptkit completion query "$line" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[=./] ]] && compopt -o nospace
}
complete -F _gptkit gptkit
"""
_ZSH = """\
#compdef gptkit
_gptkit() {
    local -a found open
    found=("${(@f)$(command gptkit completion query "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    open=(${(M)found:#*[=./]})
    found=(${found:#*[=./]})
    (( $#open )) && compadd -Q -S '' -- $open
    (( $#found )) && compadd -Q -- $found
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _gptkit gptkit
"""
_FISH = """\
complete -c gptkit -f -a '(command gptkit completion query (commandline -cp) 2>/dev/null)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run(args: list[str]) -> int:
    """Print a shell's script, or answer the question that the script asks.

    Raises:
        UserError: the shell is not known.
    """
    if args[:1] == ["query"]:
        from gptkit.cli.candidates import candidates

        sys.stdout.writelines(f"{word}\n" for word in candidates(" ".join(args[1:])))
        return 0
    if len(args) == 1 and args[0] in _SCRIPTS:
        print(_SCRIPTS[args[0]], end="")
        return 0
    raise UserError(f"{_told(args)} Write: gptkit completion bash, zsh or fish.")


def _told(args: list[str]) -> str:
    """What is wrong with the words."""
    if not args:
        return "Which shell?"
    if len(args) > 1:
        return f"gptkit completion takes one shell, got {' '.join(args)!r}."
    return f"gptkit completion {args[0]}: no such shell. {did_you_mean(args[0], _SCRIPTS)}".rstrip()
