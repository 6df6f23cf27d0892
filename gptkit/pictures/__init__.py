"""Matrices and numbers as pictures: in a terminal, and as SVG. Needs numpy, and rich for terminals; no torch."""

from gptkit.pictures.grid import Scale, pool, scale_of
from gptkit.pictures.svg import (
    Figure,
    bars_figure,
    bars_svg,
    document,
    heatmap_figure,
    heatmap_svg,
    mask_figure,
    mask_svg,
    text_figure,
)
from gptkit.pictures.terminal import Line, heatmap_lines, mask_lines

__all__ = [
    "Figure",
    "Line",
    "Scale",
    "bars_figure",
    "bars_svg",
    "document",
    "heatmap_figure",
    "heatmap_lines",
    "heatmap_svg",
    "mask_figure",
    "mask_lines",
    "mask_svg",
    "pool",
    "scale_of",
    "text_figure",
]
