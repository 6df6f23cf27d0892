"""Reads the file that wandb keeps of a run: records of its own protobuf in LevelDB's log format."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7
FULL, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """Every whole record, with its checksum verified."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, parts = HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        checksum, size, kind = struct.unpack_from("<IHB", data, at)
        payload = data[at + HEADER : at + HEADER + size]
        if kind == 0 or len(payload) < size:
            return
        assert checksum == zlib.crc32(payload, zlib.crc32(bytes([kind])))
        at, parts = at + HEADER + size, parts + payload
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def offline_file(run_dir: Path) -> Path:
    """The one offline run of a run directory."""
    found = list((run_dir / "wandb").glob("offline-run-*/*.wandb"))
    assert len(found) == 1, found
    return found[0]


class Kept:
    """What a `.wandb` file holds: `config`, `rows` of history, `summary`, `run`, `exit_code`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.metrics: list[Any] = []
        self.run: Any = None
        self.exit_code: int | None = None
        for record in records(path):
            self._take(record)

    def _take(self, record: Any) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self.run = record.run
            self.config.update({u.key: json.loads(u.value_json) for u in record.run.config.update})
        elif kind == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                keys = list(item.nested_key) or [item.key]
                place = row
                for key in keys[:-1]:
                    place = place.setdefault(key, {})
                place[keys[-1]] = json.loads(item.value_json)
            self.rows.append(row)
        elif kind == "summary":
            for item in record.summary.update:
                self.summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        elif kind == "metric":
            self.metrics.append(record.metric)
        elif kind == "exit":
            self.exit_code = record.exit.exit_code

    def pages(self, name: str) -> dict[int, str]:
        """The HTML logged under a name, by the step it was logged at."""
        return {
            row["step"]: (self.path.parent / "files" / row[name]["path"]).read_text("utf-8")
            for row in self.rows
            if name in row
        }

    def metric_rows(self) -> list[dict[str, Any]]:
        """Rows of metrics alone, without what wandb adds."""
        plain = [{k: v for k, v in row.items() if not k.startswith("_")} for row in self.rows]
        return [row for row in plain if not any(isinstance(value, (dict, str)) for value in row.values())]
