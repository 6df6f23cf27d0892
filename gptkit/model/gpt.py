"""The GPT, from top to bottom.

tokens -> embedding (and position) -> blocks -> norm -> head -> a score for each next token.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from gptkit.errors import UserError, did_you_mean
from gptkit.model.cache import Caches
from gptkit.model.interfaces import (
    Block,
    Embedding,
    Head,
    Mask,
    MaskContext,
    ModelShape,
    Penalised,
    PositionalEncoding,
    Step,
)
from gptkit.model.step import places_in_documents
from gptkit.model.tied import one_gradient

if TYPE_CHECKING:
    from gptkit.text.tokenizers.base import Tokenizer


class GPT(nn.Module):
    """A decoder made of parts.

    Attributes:
        shape: its sizes.
        embedding, position, mask, blocks, norm, head: its parts, in the order a token meets them.
        config: the config it was assembled from, if it was.
        tokenizer: what its tokens mean, if it was loaded with one.
    """

    config: dict[str, Any] | None = None
    tokenizer: Tokenizer | None = None

    def __init__(
        self,
        shape: ModelShape,
        embedding: Embedding,
        position: PositionalEncoding,
        mask: Mask,
        blocks: list[Block],
        norm: nn.Module,
        head: Head,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = embedding
        self.position = position
        self.mask = mask
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = head
        self.penalised: list[Penalised] = [part for part in self.modules() if isinstance(part, Penalised)]

    def forward(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        padding: Tensor | None = None,
        documents: Tensor | None = None,
        prefix: Tensor | None = None,
        caches: Caches | None = None,
        patterns: list[Tensor] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """The score of each possible next token, after each token given.

        Args:
            tokens: [B, T] token numbers.
            positions: [1|B, T] where they stand; counted on from the cache if left out. With
                padding they are counted in each row over the tokens that are not padding.
            padding: [B, T], true where a token is padding.
            documents: [B, T], the number of the document that each token belongs to.
            prefix: [B], the length of each row's freely readable prefix.
            caches: from `new_caches`; these tokens are read after those it holds, and kept in it.
            patterns: a list that receives each layer's attention pattern [B, H, T, S].
            last_only: score only after the last token.

        Returns:
            Logits [B, T, V], or [B, 1, V] with `last_only`.

        Raises:
            PositionRangeError: a position lies past what the encoding can tell.
        """
        x = self.hidden(
            tokens, positions=positions, padding=padding, documents=documents, prefix=prefix,
            caches=caches, patterns=patterns,
        )  # fmt: skip
        return self.head(x[:, -1:] if last_only else x)

    def hidden(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        padding: Tensor | None = None,
        documents: Tensor | None = None,
        prefix: Tensor | None = None,
        caches: Caches | None = None,
        patterns: list[Tensor] | None = None,
    ) -> Tensor:
        """What the head reads: [B, T, D]; arguments as of `forward`."""
        step = self.step(tokens, positions, padding, documents, prefix, caches)
        step.patterns, step.tokens = patterns, tokens
        x = self.embedding(tokens, step.q_positions)
        x = self.blocks[0].enter(x) if self.blocks else x  # type: ignore[operator]
        for index, block in enumerate(self.blocks):
            step.cache = None if caches is None else caches.layers[index]
            x = block(x, step)
        x = self.blocks[-1].leave(x) if self.blocks else x  # type: ignore[operator]
        if caches is not None:
            caches.advance(tokens.shape[1])
        return self.norm(x)

    def loss(
        self,
        tokens: Tensor,
        targets: Tensor,
        *,
        padding: Tensor | None = None,
        documents: Tensor | None = None,
        prefix: Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Tensor:
        """Cross-entropy of the next token, in nats; never holds the logits of a large vocabulary.

        Args:
            tokens: [B, T].
            targets: [B, T], the token after each; -100 counts for nothing.
            padding, documents, prefix: as of `forward`.
            reduction: `mean` over the targets that count, or their `sum`.
        """
        with nullcontext() if torch.compiler.is_compiling() else one_gradient():
            x = self.hidden(tokens, padding=padding, documents=documents, prefix=prefix)
            loss = self.head.loss(x, targets, reduction)
        if not self.penalised or not self.training:
            return loss
        penalties = [part.take_penalty() for part in self.penalised]
        count = (targets != -100).sum() if reduction == "sum" else 1
        for penalty in penalties:
            if penalty is not None:
                loss = loss + count * (penalty - penalty.detach())  # nought, with a gradient
        return loss

    def step(
        self,
        tokens: Tensor,
        positions: Tensor | None,
        padding: Tensor | None,
        documents: Tensor | None,
        prefix: Tensor | None,
        caches: Caches | None,
    ) -> Step:
        """Where the tokens of one pass stand, and what they may read."""
        length, device = tokens.shape[1], tokens.device
        held = 0 if caches is None else caches.length
        first = 0 if caches is None else caches.origin
        if caches is not None and held + length > caches.capacity:
            raise UserError(
                f"The cache holds {held} of {caches.capacity} tokens; {length} more do not fit. "
                "Ask new_caches for more, or let it slide."
            )
        before = None if caches is None else caches.unpadded()
        if positions is None and (padding is not None or before is not None):
            real = torch.ones_like(tokens, dtype=torch.bool) if padding is None else ~padding
            before = first + held if before is None else before
            positions = (before + real.cumsum(-1) - 1).clamp(min=0)  # padding stands where the last token did
        if self.max_positions is not None and not torch.compiler.is_compiling():
            self.position.require(first + held + length - 1 if positions is None else int(positions.max()))
        keys = torch.arange(first, first + held + length, device=device).unsqueeze(0)  # [1, S]
        if caches is None:
            q_at = keys if positions is None else positions
            places = None if documents is None else places_in_documents(documents, q_at)
            context = MaskContext(padding, documents, documents, prefix, places)
            return Step(q_at, q_at, context, plain=positions is None)
        k_at = caches.track("positions", positions, keys)
        k_padding = caches.track("padding", padding, torch.zeros_like(keys, dtype=torch.bool))
        k_documents = caches.track("documents", documents, torch.zeros_like(keys))
        plain = k_at is None
        k_at = keys if k_at is None else k_at
        q_documents = None if k_documents is None else k_documents[:, held:]
        places = None if k_documents is None else places_in_documents(k_documents, k_at)
        context = MaskContext(k_padding, q_documents, k_documents, prefix, places)
        return Step(k_at[:, held:], k_at, context, plain=plain)

    def new_caches(
        self, batch: int, length: int, *, dtype: torch.dtype | None = None, slide: bool = False
    ) -> Caches:
        """Empty caches for decoding.

        Args:
            batch: rows.
            length: tokens that may be held at once.
            dtype: of keys and values; null takes the weights'.
            slide: leave room to drop the oldest token at each step without moving the others.
        """
        weight = next(self.embedding.parameters())
        slack = 2 if slide else 1
        layers = [
            block.attention.new_cache(batch, length, weight.device, dtype or weight.dtype, slack)  # type: ignore[union-attr, operator]
            for block in self.blocks
        ]
        return Caches(layers, length)

    @property
    def max_positions(self) -> int | None:
        """How many positions the model can tell, or None where there is no end."""
        return self.position.max_positions

    def n_parameters(self, *, trainable: bool = True) -> int:
        """How many numbers the model learns; shared ones count once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not trainable)

    def generate(self, prompt: Any = "", **options: Any) -> list[str]:
        """Continue a text; see `gptkit.generate.loop.generate` for the options.

        Raises:
            UserError: the model has no tokenizer; `gptkit.load` gives one. Or there is no such option.
        """
        if self.tokenizer is None:
            raise UserError(
                "This model has no tokenizer, so it cannot read a prompt. Set model.tokenizer, or use gptkit.load."
            )
        from gptkit.generate.loop import OPTIONS, generate

        for name in options.keys() - set(OPTIONS):
            hint = did_you_mean(name, OPTIONS) or f"Options: {', '.join(OPTIONS)}."
            told = "How tokens are drawn is the sampler's: sampler={'name': 'sample', 'temperature': 0.7}."
            raise UserError(f"generate has no option {name!r}. {hint} {told}")
        return generate(self, self.tokenizer, prompt, **options)
