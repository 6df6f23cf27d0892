"""The families of models that Hugging Face's `transformers` knows and gptkit can hold, a file each.

A family's file is named after its `model_type` and says three things:

    read(fields) -> model section      what a config.json means, as parts
    write(section) -> config           the same backwards
    layouts(section) -> {ours: Layout} where each weight is kept

or, where that does not do, `load(config, state) -> GPT` and `export(model) -> (config, state)`. What
transformers takes for a field of which a config.json is silent stands in `SILENT`, where it is not what
most families take. `IGNORED` tells how the names of weights end that no logit needs, and
`unread(config)`, where a family has it, how they begin.

Nothing else knows a family. What one cannot say is refused, never dropped: `write` is trusted only
where reading its config back gives the section again.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from gptkit.errors import UserError, did_you_mean


def names() -> list[str]:
    """Every family's `model_type`."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def family(kind: object) -> ModuleType:
    """The family of a `model_type`.

    Raises:
        UserError: it is not known; names the nearest and all.
    """
    known = names()
    if not isinstance(kind, str) or kind not in known:
        hint = did_you_mean(str(kind), known)
        raise UserError(f"model_type={kind!r} cannot be read. {hint} Known: {', '.join(known)}.")
    return importlib.import_module(f"{__name__}.{kind}")
