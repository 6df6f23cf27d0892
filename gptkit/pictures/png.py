"""A small matrix of colours as a PNG inside a `data:` address: one number a cell, in 256 colours."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from gptkit.pictures.grid import COLD, WARM


def heat_png(shares: np.ndarray) -> str:
    """Shares in [-1, 1] as a `data:` address: blue below zero, orange above, and clear at zero.

    What is clear shows the page, so one picture serves light and dark pages. NaN is clear.

    Args:
        shares: [rows, columns].
    """
    rows, columns = shares.shape
    index = (np.nan_to_num(shares) * 127).round().astype(int) + 127  # 0 .. 254
    palette = b"".join(bytes(COLD if i < 127 else WARM) for i in range(255))
    clear = bytes(round(255 * abs(i - 127) / 127) for i in range(255))
    lines = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in index)
    chunks = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
        _chunk(b"PLTE", palette),
        _chunk(b"tRNS", clear),
        _chunk(b"IDAT", zlib.compress(lines, 9)),
        _chunk(b"IEND", b""),
    ]
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
