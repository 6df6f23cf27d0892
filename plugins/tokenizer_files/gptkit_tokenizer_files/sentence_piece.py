"""SentencePiece models, from a `.model` file; the file is a table and is parsed by its own library."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from gptkit.errors import DataError, UserError
from gptkit.registry import register
from gptkit_tokenizer_files.convert import as_tokenizer_json
from gptkit_tokenizer_files.from_file import FromFile

_SPACE = "▁"


@register("tokenizer", "sentencepiece")
class SentencePieceTokenizer(FromFile):
    """A tokenizer from a SentencePiece `.model` (Kudo & Richardson 2018), by the `sentencepiece` library.

    The file is kept whole with each model that is saved, so it is read once. The texts of its control
    pieces, such as `</s>`, are plain text, and none is put before or after a text. Every text without
    `▁` (U+2581), which stands for spaces, comes back where the file has a piece for each byte and
    changes no text; one that normalises (`nmt_nfkc`, spaces joined) or lacks bytes does as it was made to.

    Args:
        path: the `.model` file, or the folder that holds a `tokenizer.model`.
        end_of_text: the text of the control piece that ends a document; null takes what a
            `tokenizer_config.json` beside the file says, or the model's own.
        begin_of_text: the text of the special token that prompts are read after; null takes what that
            file or this one says, and an empty text none.
    """

    name = "sentencepiece"
    file = "tokenizer.model"
    kept = "sentencepiece.model"
    forgets = _SPACE
    examples: ClassVar = [{"path": str(Path(__file__).with_name("examples"))}]

    def __init__(
        self, *, path: str, end_of_text: str | None = None, begin_of_text: str | None = None
    ) -> None:
        super().__init__(path, end_of_text, begin_of_text)

    def _open(self, data: bytes) -> None:
        try:
            import sentencepiece
        except ImportError:
            raise UserError(
                "tokenizer=sentencepiece needs the `sentencepiece` library: pip install 'gptkit[sentencepiece]'."
            ) from None
        try:
            if not data:
                raise ValueError("it is empty")
            library = sentencepiece.SentencePieceProcessor(model_proto=data)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            raise DataError(
                f"tokenizer=sentencepiece: the file is no SentencePiece model: {reason}."
            ) from None
        self._library = library
        self.vocab_size = library.vocab_size()
        self.special = {
            library.id_to_piece(token): token for token in range(self.vocab_size) if library.is_control(token)
        }

    def _end(self, wanted: str | None) -> int | None:
        if wanted is None:
            own = self._library.eos_id()
            return own if own >= 0 else None
        if wanted not in self.special:
            raise UserError(
                f"tokenizer=sentencepiece: end_of_text={wanted!r} is not among the model's control pieces: "
                f"{', '.join(self.special) or 'it has none'}."
            )
        return self.special[wanted]

    def hugging_face(self) -> dict[str, bytes]:
        own = {self.file: self.state()[self.kept]}
        converted = as_tokenizer_json(self._library, self._leads, self._first)
        return own if converted is None else {**own, "tokenizer.json": converted}

    def _ids(self, text: str) -> list[int]:
        return self._library.encode(text)

    def _spell(self, token: int) -> bytes:
        piece = self._library.id_to_piece(token)
        if self._library.is_byte(token):
            return bytes([int(piece[1:-1], 16)])
        known = not (self._library.is_control(token) or self._library.is_unknown(token))
        return (piece.replace(_SPACE, " ") if known else piece).encode()
