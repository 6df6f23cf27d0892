"""From tokens to text as it comes: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptkit.text.tokenizers.base import Tokenizer


class Speller:
    """Spells one row of tokens.

    A character whose bytes are spread over several tokens is given once it is whole; bytes that can
    be no character become U+FFFD. Text that may be the beginning of a stop string is held back until it is
    clear that it is none. Where the text ends does not depend on how it is cut into tokens: at the
    stop string that is complete first, or of several then, the longest.

    Args:
        tokenizer: what the tokens mean.
        stop: texts that end the row and are not given; none is empty.

    Attributes:
        stopped: a stop string came.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that is certain now; may be empty."""
        text = self._held + self._decoder.decode(self._tokenizer.token_bytes(token))
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        cut = len(text) - self._doubtful(text)
        self._held = text[cut:]
        return text[:cut]

    def end(self) -> str:
        """What was held back, once no token follows; a character that is not whole is left out."""
        text, self._held = self._held, ""
        return text

    def _doubtful(self, text: str) -> int:
        """The length of the longest end of the text that begins a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0
