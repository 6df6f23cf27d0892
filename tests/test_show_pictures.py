"""Matrices in a terminal and as SVG say what the matrix says."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptkit import pictures
from gptkit.pictures.grid import COLD, WARM, blend, number, pick
from gptkit.pictures.png import heat_png
from gptkit.pictures.terminal import Line, Signs

SVG = "{http://www.w3.org/2000/svg}"


def triangle(size: int) -> np.ndarray:
    return np.tril(np.ones((size, size)))


def text(lines: list[Line]) -> list[str]:
    return ["".join(piece for piece, _ in line) for line in lines]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_pooling_takes_means_and_loses_no_cell(
    rows: int, columns: int, most: int, wide: int, seed: int
) -> None:
    matrix = np.random.default_rng(seed).normal(size=(rows, columns))
    down = [round(i * rows / min(rows, most)) for i in range(min(rows, most) + 1)]
    across = [round(i * columns / min(columns, wide)) for i in range(min(columns, wide) + 1)]
    expected = [[matrix[a:b, c:d].mean() for c, d in pairwise(across)] for a, b in pairwise(down)]
    np.testing.assert_allclose(pictures.pool(matrix, most, wide), expected, rtol=1e-12, atol=1e-12)


def test_what_fits_is_left_as_it_is() -> None:
    matrix = np.arange(12.0).reshape(3, 4)
    assert (pictures.pool(matrix, 3, 4) == matrix).all()
    assert (pick(matrix, 9, 9) == matrix).all()
    assert set(pick(matrix, 2, 2).ravel()) <= set(matrix.ravel())


@pytest.mark.parametrize("shape", [(0, 3), (2, 2, 2)])
def test_no_picture_of_nothing(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="matrix"):
        pictures.mask_lines(np.zeros(shape))


def test_scales_stand_even_around_zero() -> None:
    assert pictures.scale_of([[-1.0, 3.0]]) == pictures.Scale(-3.0, 3.0)
    assert pictures.scale_of([[2.0, 3.0]]) == pictures.Scale(0.0, 3.0)
    assert pictures.scale_of([[-2.0, -3.0]]) == pictures.Scale(-3.0, 0.0)
    assert pictures.scale_of([[float("nan"), float("inf")]]) == pictures.Scale(0.0, 0.0)
    scale = pictures.scale_of([[-4.0, 1.0]], power=0.5)
    assert scale.shares(np.array([-4.0, 1.0, 0.0])).tolist() == [-1.0, 0.5, 0.0]


def test_colours_run_from_blue_to_orange() -> None:
    assert (blend(-1, (0, 0, 0)), blend(0, (9, 9, 9)), blend(1, (0, 0, 0))) == (COLD, (9, 9, 9), WARM)
    assert blend(float("nan"), (1, 2, 3)) == (1, 2, 3)
    assert [number(v) for v in (-0.0, -1.0, 0.123456)] == ["0", "−1", "0.123"]


def read_blocks(lines: list[str], rows: int) -> np.ndarray:
    """The matrix that half blocks draw."""
    halves = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
    wide = max(map(len, lines))
    cells = [[halves[sign] for sign in line.ljust(wide)] for line in lines]
    stacked = np.array(cells).transpose(0, 2, 1).reshape(-1, wide)
    return stacked[:rows]


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_masks_in_half_blocks_and_in_plain_signs(size: int) -> None:
    mask = np.random.default_rng(size).integers(0, 2, (size, size))
    mask[0] = 1
    assert (read_blocks(text(pictures.mask_lines(mask, signs="blocks")), size) == mask).all()
    plain = text(pictures.mask_lines(mask, signs="ascii"))
    assert [[int(sign == "#") for sign in line.split(" ")] for line in plain] == mask.tolist()


def test_masks_in_colour() -> None:
    lines = pictures.mask_lines(triangle(4))
    assert len(lines) == 2
    (above, below), blue, grey = (lines[0], lines[1]), "#4080de", "#3a3e46"
    assert above == [("▀", f"{blue} on {blue}"), ("▀", f"{grey} on {blue}"), ("▀▀", f"{grey} on {grey}")]
    assert below[0] == ("▀▀▀", f"{blue} on {blue}")
    assert pictures.mask_lines(triangle(3))[-1][0] == (
        "▀▀▀",
        blue,
    )  # the last row of an odd number has none below


@pytest.mark.parametrize("signs", ["colour", "blocks", "ascii"])
def test_large_masks_are_drawn_small_and_thin_bands_stay_seen(signs: Signs) -> None:
    band = np.eye(1000)
    lines = pictures.mask_lines(band, signs=signs, cells=20)
    assert len(lines) == (20 if signs == "ascii" else 10)
    if signs == "colour":
        assert lines[0][0][1] != lines[0][-1][1]
    else:
        assert all(set(line) & set("#▀▄█") for line in text(lines))


def test_heat_maps_without_colour_rise_with_their_numbers() -> None:
    ramp = text(pictures.heatmap_lines(np.linspace(-2, 5, 10)[None], signs="ascii"))
    assert ramp == [" .:-=+*#%@"]
    assert text(pictures.heatmap_lines([[1.0, 1.0]], signs="ascii")) == ["  "]


def test_heat_maps_in_colour() -> None:
    lines = pictures.heatmap_lines([[-1.0, 0.0], [1.0, 0.0]])
    assert lines == [[("▀", "#4080de on #ec7038"), ("▀", "#1c1e24 on #1c1e24")]]


def decoded(address: str) -> np.ndarray:
    """The RGBA pixels of a palette PNG, read by the book."""
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunks[kind] = data[at + 8 : at + 8 + length]
        (told,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert told == zlib.crc32(kind + chunks[kind])
        at += 12 + length
    wide, tall = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(tall, wide + 1)
    assert not rows[:, 0].any()
    palette = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
    clear = np.frombuffer(chunks[b"tRNS"], np.uint8)
    return np.concatenate([palette[rows[:, 1:]], clear[rows[:, 1:]][..., None]], -1)


def test_the_png_holds_the_shares() -> None:
    shares = np.array([[-1.0, -0.5, 0.0], [0.5, 1.0, float("nan")]])
    pixels = decoded(heat_png(shares))
    assert pixels.shape == (2, 3, 4)
    assert pixels[..., 3].tolist() == [[255, 129, 0], [129, 255, 0]]
    assert tuple(pixels[0, 0, :3]) == COLD
    assert tuple(pixels[1, 1, :3]) == WARM


def test_every_svg_is_whole_and_stands_alone() -> None:
    documents = [
        pictures.mask_svg(triangle(8), "a < b & c"),
        pictures.mask_svg(triangle(300)),
        pictures.heatmap_svg(
            np.random.default_rng(0).normal(size=(20, 30)), across="<x>", down="y", note="n" * 300
        ),
        pictures.bars_svg([("one", 1.0, "100 %"), ("<two>", 0.5, "50 %")], "Bars"),
    ]
    for document in documents:
        root = ElementTree.fromstring(document)
        assert root.tag == f"{SVG}svg"
        assert root.get("aria-label")
        assert "prefers-color-scheme: dark" in document
        assert not re.search(r'(href|src)="(?!data:)', document)
        assert not re.search(r"<(script|foreignObject)", document)
        assert len(document) < 100_000


def boxes(document: str, style: str) -> list[tuple[float, float, float, float]]:
    """(x, y, width, height) of every cell of a style."""
    found = []
    for path in ElementTree.fromstring(document).iter(f"{SVG}path"):
        if path.get("class") == style:
            cells = re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)", path.get("d", ""))
            found += [tuple(map(float, cell)) for cell in cells]
    return found  # type: ignore[return-value]


def test_a_small_mask_as_svg_has_a_cell_for_each_pair() -> None:
    mask = np.random.default_rng(3).integers(0, 2, (9, 9))
    document = pictures.mask_svg(mask, width=46 + 9 * 20)
    on = {(round(y / 20), round(x / 20)) for x, y, _, _ in boxes(document, "on")}
    assert on == set(zip(*(axis.tolist() for axis in mask.nonzero()), strict=True))
    assert len(boxes(document, "on")) + len(boxes(document, "off")) == 81


def test_a_large_mask_as_svg_covers_the_same_area() -> None:
    document = pictures.mask_svg(triangle(100), width=46 + 200)
    area = sum(width * height for _, _, width, height in boxes(document, "on"))
    assert area == pytest.approx(100 * 101 / 2 * 4)


def test_bars_are_as_long_as_their_shares() -> None:
    document = pictures.bars_svg(
        [("a", 1.0, ""), ("b", 0.25, ""), ("c", 2.0, "")], width=440, label=130, value=150
    )
    lengths = [
        float(r.get("width", 0))
        for r in ElementTree.fromstring(document).iter(f"{SVG}rect")
        if r.get("class") == "bar"
    ]
    assert lengths == [148.0, 37.0, 148.0]
