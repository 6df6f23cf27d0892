"""Where text comes from: files of several kinds, or the text that travels with the package."""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from gptkit.errors import DataError, did_you_mean
from gptkit.registry import register

_ASSETS = Path(__file__).resolve().parent / "assets"
_KINDS = {
    ".txt": "text",
    ".md": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


class Corpus(ABC):
    """Documents to train on, and perhaps others to validate on."""

    @abstractmethod
    def documents(self) -> Iterator[str]:
        """The documents, always in the same order."""

    def validation(self) -> Iterator[str] | None:
        """Documents kept apart for validation; None lets the end of `documents` serve."""
        return None

    def all_documents(self, held_out: float = 0.0) -> Iterator[str]:
        """All documents, those for validation last: what a vocabulary is made from.

        Args:
            held_out: the share that is kept from training, for a corpus whose documents depend on it.
        """
        yield from self.documents()
        yield from self.validation() or ()

    @abstractmethod
    def fingerprint(self) -> str:
        """A digest of the content."""


@register("data", "shakespeare")
class Shakespeare(Corpus):
    """Nine plays of Shakespeare, 1.1 MB of English that travels with the package."""

    def __init__(self) -> None:
        self._data = (_ASSETS / "shakespeare.txt.gz").read_bytes()

    def documents(self) -> Iterator[str]:
        yield from gzip.decompress(self._data).decode("utf-8").split("\f")

    def fingerprint(self) -> str:
        return hashlib.sha256(self._data).hexdigest()


@register("data", "text")
class TextFiles(Corpus):
    """Your own text: a file, several, a folder or a pattern of names.

    A .txt or .md file is one document; each line of .jsonl and each row of .parquet is one.

    Args:
        path: a file, a folder (all files of these kinds below it), a pattern such as `books/*.txt`, or a
            list of these; read in the order of their names.
        field: the field of .jsonl and .parquet that holds the text.
        val_path: files for validation alone; null keeps a part of the corpus, as `val_fraction` and
            `val_fold` say.
    """

    def __init__(
        self, *, path: str | list[str], field: str = "text", val_path: str | list[str] | None = None
    ) -> None:
        self.files = find_files(path)
        self.field = field
        self.val_files = find_files(val_path) if val_path else None

    def documents(self) -> Iterator[str]:
        for file in self.files:
            yield from read_documents(file, self.field)

    def validation(self) -> Iterator[str] | None:
        if self.val_files is None:
            return None
        return (document for file in self.val_files for document in read_documents(file, self.field))

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.field.encode())
        for group in (self.files, self.val_files or []):
            digest.update(b"|")
            for file in group:
                digest.update(_KINDS[file.suffix.lower()].encode() + b":")
                with file.open("rb") as stream:
                    for block in iter(lambda: stream.read(1 << 22), b""):
                        digest.update(block)
        return digest.hexdigest()


def find_files(path: str | list[str]) -> list[Path]:
    """The files that a path, folder, pattern or list of these names, sorted within each.

    Raises:
        DataError: one names nothing, or a file of a kind that is not read.
    """
    found: dict[Path, None] = {}
    for entry in [path] if isinstance(path, str) else path:
        for file in _expand(entry):
            found[file] = None
    if not found:
        raise DataError("data.path names no file. Give a file, a folder, a pattern or a list of these.")
    return list(found)


def _expand(entry: str) -> list[Path]:
    try:
        place = Path(entry).expanduser()
    except RuntimeError as error:
        raise DataError(f"data.path={entry}: {error}") from None
    if place.is_dir():
        files = sorted(p for p in place.rglob("*") if p.is_file() and p.suffix.lower() in _KINDS)
        if not files:
            raise DataError(f"data.path={entry}: no {', '.join(_KINDS)} file lies in this folder.")
        return files
    if place.is_file():
        if place.suffix.lower() not in _KINDS:
            raise DataError(
                f"data.path={entry}: files of kind {place.suffix!r} are not read; {', '.join(_KINDS)} are."
            )
        return [place]
    matches = [Path(p) for p in sorted(glob.glob(str(place), recursive=True))]
    files = [p for p in matches if p.is_file() and p.suffix.lower() in _KINDS]
    if not files:
        here = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        hint = (
            did_you_mean(place.name, here) if place.parent.is_dir() else f"There is no folder {place.parent}."
        )
        raise DataError(f"data.path={entry}: there is no such file. {hint}".rstrip())
    return files


def read_documents(file: Path, field: str) -> Iterator[str]:
    """The documents of one file.

    Raises:
        DataError: it cannot be read, is not UTF-8 (says where), or lacks the field.
    """
    kind = _KINDS[file.suffix.lower()]
    try:
        if kind == "text":
            yield decode(file.read_bytes(), str(file)).replace("\r\n", "\n")
        elif kind == "jsonl":
            yield from _json_lines(file, field)
        else:
            yield from _parquet(file, field)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}.") from None


def decode(data: bytes, where: str, offset: int = 0) -> str:
    """UTF-8 bytes as text; a byte order mark is left out.

    Raises:
        DataError: they are not UTF-8; says the file and the byte.
    """
    if offset == 0 and data.startswith(codecs.BOM_UTF8):
        data, offset = data[3:], 3
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: byte {offset + error.start} (0x{data[error.start]:02x}) is not UTF-8: {error.reason}. "
            "Convert the file, for instance with: iconv -f latin1 -t utf-8."
        ) from None


def _json_lines(file: Path, field: str) -> Iterator[str]:
    offset = 0
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            text = decode(line, str(file), offset)
            offset += len(line)
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file}, line {number}: not valid JSON: {error}.") from None
            if not isinstance(row, dict) or field not in row:
                names = list(row) if isinstance(row, dict) else []
                hint = did_you_mean(field, names) or f"It has: {', '.join(map(str, names)) or 'none'}."
                raise DataError(f"{file}, line {number}: no field {field!r}. {hint} Set data.field.")
            if not isinstance(row[field], str):
                raise DataError(f"{file}, line {number}: field {field!r} is no text.")
            yield row[field]


def _parquet(file: Path, field: str) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{file}: .parquet needs pyarrow: pip install 'gptkit[parquet]'.") from None
    try:
        table = pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{file}: not a Parquet file: {error}.") from None
    names = table.schema_arrow.names
    if field not in names:
        hint = did_you_mean(field, names) or f"It has: {', '.join(names)}."
        raise DataError(f"{file}: no column {field!r}. {hint} Set data.field.")
    try:
        for rows in table.iter_batches(columns=[field]):
            for value in rows.column(0).to_pylist():
                if not isinstance(value, str):
                    raise DataError(f"{file}: column {field!r} holds {type(value).__name__}, not text.")
                yield value
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: the Parquet file is damaged: {error}.") from None
