"""The explainer's first picture: what may come next, from the most to the least probable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gptkit.generate.loop import start_tokens

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT
    from gptkit.text.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class NextToken:
    """A token that may come next.

    Attributes:
        text: what it spells; half characters show as U+FFFD.
        id: its number.
        probability: the model's, at temperature 1.
    """

    text: str
    id: int
    probability: float


def next_tokens(model: GPT, tokenizer: Tokenizer, prompt: str, k: int = 10) -> list[NextToken]:
    """The k most probable next tokens after a text, most probable first.

    Only the last `context_length` tokens of the text are read.
    """
    tokens = start_tokens(tokenizer, prompt)[-model.shape.context_length :]
    with torch.inference_mode():
        device = model.embedding.weight.device
        logits = model(torch.tensor([tokens], device=device), last_only=True)[0, -1]
        chances = logits.float().softmax(-1)[: tokenizer.vocab_size]
        best = chances.topk(min(k, len(chances)))
    return [
        NextToken(tokenizer.token_bytes(token).decode("utf-8", "replace"), token, chance)
        for token, chance in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
