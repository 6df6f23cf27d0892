"""Decoding with the cache: GPT-2 124M, one stream, float32, beside Hugging Face's `generate`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from bench.figure import Figure


def cached(*, smoke: bool = False, repeats: int = 4) -> list[Figure]:
    """Tokens a second of greedy decoding, and the share of the memory bandwidth that they use.

    The bandwidth is what a matrix-vector product over the same maps reaches, laid out as gptkit lays
    them out; `torch.mv` over the maps as they are stored is the second mark.
    """
    layers, width, heads, tokens = (2, 64, 2, 8) if smoke else (12, 768, 12, 48)
    ours, theirs = gptkit_side(layers, width, heads), transformers_side(layers, width, heads)
    packed, plain = products(layers, width)
    best = {"ours": 0.0, "theirs": 0.0, "packed": 0.0, "plain": 0.0}
    with torch.inference_mode():
        for _ in range(1 if smoke else repeats):
            best["ours"] = ours(tokens)
            best["theirs"] = theirs(tokens)
            best["packed"] = max(best["packed"], packed())
            best["plain"] = max(best["plain"], plain())
    used = best["ours"] * 4 * (layers * 12 * width**2 + 50257 * width) / 1e9
    return [
        Figure(
            "decoding GPT-2 124M",
            "transformers.generate",
            best["ours"],
            best["theirs"],
            "tokens/s",
            least=1.3,
        ),
        Figure("bandwidth of decoding", "torch.mv, stored layout", used, best["plain"], "GB/s", least=0.8),
        Figure(
            "bandwidth of decoding", "bare products, packed layout", used, best["packed"], "GB/s", least=0.8
        ),
    ]


def gptkit_side(layers: int, width: int, heads: int) -> Callable[[int], float]:
    """Returns a function: tokens to decode -> tokens a second, through `model.generate`."""
    import gptkit
    from gptkit.text.tokenizers import build_tokenizer

    sizes = [f"model.n_layers={layers}", f"model.d_model={width}", f"model.n_heads={heads}"]
    model = gptkit.build(gptkit.compose(["model=gpt2", "tokenizer=gpt2", *sizes])).eval()
    model.tokenizer = build_tokenizer({"name": "gpt2"}, None)

    return _marginal(
        lambda n: model.generate("To be, or not to be", max_tokens=n, sampler={"name": "greedy"})
    )


def transformers_side(layers: int, width: int, heads: int) -> Callable[[int], float]:
    """The same of `GPT2LMHeadModel.generate`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=layers, n_embd=width, n_head=heads)).eval()
    prompt = torch.randint(0, 50000, (1, 6))
    options = {"do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(prompt)}

    return _marginal(lambda n: model.generate(prompt, max_new_tokens=n, min_new_tokens=n, **options))


def _marginal(run: Callable[[int], object]) -> Callable[[int], float]:
    """A function: tokens -> tokens a second, without what both a short and a long run pay once.

    The quickest short run and the quickest long one so far are compared: a single pair would look fast
    whenever its short run was disturbed.
    """
    quickest: dict[int, float] = {}

    def speed(tokens: int) -> float:
        few = max(1, tokens // 4)
        for count in (few, tokens):
            start = time.perf_counter()
            run(count)
            quickest[count] = min(quickest.get(count, math.inf), time.perf_counter() - start)
        return (tokens - few) / max(quickest[tokens] - quickest[few], 1e-9)

    return speed


def products(layers: int, width: int) -> tuple[Callable[[], float], Callable[[], float]]:
    """Two functions that measure GB/s over all maps of the model, times one vector each."""
    cores = torch.get_num_threads()
    maps = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)] * layers + [
        (50257, width)
    ]
    stored = [torch.randn(*size) for size in maps]
    slabs = [weight.t().contiguous().view(cores, -1, weight.shape[0]) for weight in stored]
    parts = [torch.randn(cores, 1, slab.shape[1]) for slab in slabs]
    vectors = [torch.randn(weight.shape[1]) for weight in stored]
    size = sum(weight.nbytes for weight in stored)

    def rate(run: Callable[[], object]) -> float:
        start = time.perf_counter()
        run()
        return size / (time.perf_counter() - start) / 1e9

    return (
        lambda: rate(lambda: [torch.bmm(part, slab) for part, slab in zip(parts, slabs, strict=True)]),
        lambda: rate(
            lambda: [torch.mv(weight, vector) for weight, vector in zip(stored, vectors, strict=True)]
        ),
    )
