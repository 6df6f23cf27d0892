"""`gptkit show`: the composed model, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptkit.cli.arguments import split_flags, take_key
from gptkit.errors import UserError
from gptkit.text.vocabulary import vocabulary

if TYPE_CHECKING:
    from gptkit.view.sheet import Sheet

SUMMARY = "draw the composed model: parts, sizes, cost, mask and positions"
USAGE = """\
gptkit show [key=value ...] [out=FILE.svg | out=FOLDER] [--positions N] [--json]

  gptkit show                            the default model
  gptkit show model=gpt2 position=sinusoidal
  gptkit show model=gpt2 out=gpt2.svg    one page with everything
  gptkit show mask=[causal,sliding_window] --positions 32
  gptkit show model=nano out=pictures/   each picture by itself

  out=FILE.svg   write one page instead of showing it here
  out=FOLDER/    write each picture
  --positions N  the pictures show the first N positions
  --json         the same facts for other programs

Nothing is trained, and no weight is made: gpt2_xl is drawn as quickly as nano.
"""


def run(args: list[str]) -> int:
    """Draw a model.

    Raises:
        UserError: the words do not make a config, or the picture cannot be written.
    """
    flags, words = split_flags(args, ["--json"], ["--config-dir", "--positions"])
    out, words = take_key(words, "out")
    most = _positions(flags.get("--positions"))
    from gptkit.compose import compose

    config = compose(words, config_dir=flags.get("--config-dir"))
    target = None if out is None else _target(out)
    seen = look(config, most)
    if "--json" in flags:
        from gptkit.view.sheet import facts

        print(json.dumps(facts(seen), indent=2))
    if target is not None:
        for path in write(seen, target):
            if "--json" not in flags:
                print(path)
    elif "--json" not in flags:
        from rich.console import Console

        from gptkit.view.terminal import show

        show(seen, Console(highlight=False))
    return 0


def look(config: Mapping[str, Any], most: int | None = None) -> Sheet:
    """Gather what there is to show of the model that a config describes.

    Args:
        config: whole, as `gptkit.compose` gives it.
        most: how many positions the pictures show.
    """
    from gptkit.model.assemble import build
    from gptkit.view.sheet import sheet

    model = build(config, vocab_size=vocabulary(config), device="meta")
    return sheet(model, config, seen=most)


def _positions(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not int(text):
        raise UserError(f"--positions {text}: expected a whole number, 1 or more, such as --positions 32.")
    return int(text)


def _target(out: str) -> Path:
    """Where to write.

    Raises:
        UserError: it names no SVG file and no folder.
    """
    path = Path(out)
    if not out or (path.suffix not in ("", ".svg") and not path.is_dir() and not out.endswith("/")):
        raise UserError(
            f"out={out}: gptkit show writes SVG. Take out={path.stem or 'model'}.svg, or a folder."
        )
    return path


def write(seen: Sheet, path: Path) -> list[Path]:
    """Write one page, or a folder of pictures; returns the files.

    Raises:
        UserError: they cannot be written.
    """
    from gptkit.view.page import write_page, write_pictures

    try:
        if path.suffix == ".svg" and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_page(seen, path)
            return [path]
        return write_pictures(seen, path)
    except OSError as error:
        raise UserError(f"out={path} cannot be written: {error.strerror or error}.") from None
