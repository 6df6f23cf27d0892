"""`gptkit gallery`: every part on one page."""

from __future__ import annotations

from pathlib import Path

from gptkit.cli.arguments import take_keys
from gptkit.errors import RunError, UserError

SUMMARY = "a page of all parts: formulas, options, pictures, presets"
USAGE = """\
gptkit gallery out=DIR

  gptkit gallery out=gallery   writes gallery/index.html, which needs no
                               network, gallery/gallery.md, and each picture
                               by itself: gallery/pictures/SLOT.NAME.svg

Parts of plugins that are installed stand among the others.
In the terminal: gptkit components.
"""


def run(args: list[str]) -> int:
    """Write the pages.

    Raises:
        UserError: it is not said where, or something else is said.
        RunError: they cannot be written.
    """
    from gptkit import files

    out = take_keys("gallery", args, ["out"]).get("out")
    if not out:
        raise UserError("gptkit gallery needs a folder: gptkit gallery out=gallery.")
    from gptkit.view.gallery import gallery
    from gptkit.view.gallery_page import html, markdown

    folder, made = Path(out), gallery()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(html(made), "utf-8")
        (folder / "gallery.md").write_text(markdown(made), "utf-8")
        (folder / "pictures").mkdir(exist_ok=True)
        for entry in (entry for entries in made.entries.values() for entry in entries if entry.picture):
            (folder / "pictures" / f"{entry.slot}.{entry.name}.svg").write_text(entry.picture, "utf-8")
    except OSError as error:
        raise RunError(f"{folder} was not written: {files.cause(error)}.") from error
    for line in made.broken:
        print(f"left out: {line}")
    print(folder / "index.html")
    return 0
