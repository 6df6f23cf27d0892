"""The keys of a config that belong to no part: sizes, budget, hardware.

Each class is a schema: its fields are the keys, their annotations the types, `Args:` their meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What stands at the top of a config, beside the parts.

    Args:
        seed: decides the initial weights, the order of batches and every random draw.
        name: a word for the run's folder; empty takes the model's preset name.
        run_root: the folder that holds run directories.
        devices: how many processes, one a device; `auto` takes what the machine has.
        nodes: how many machines.
        accelerator: `auto` takes CUDA where there is one, else the CPU.
    """

    seed: int = 1337
    name: str | None = None
    run_root: str = "runs"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The sizes of a GPT, and the two dials that its parts share.

    Args:
        preset: the name of the preset that this model started from; a label, nothing depends on it.
        context_length: tokens that one training example holds.
        d_model: width of the residual stream.
        n_layers: number of blocks; 0 gives a bigram model.
        n_heads: attention heads in each layer.
        n_kv_heads: heads of keys and values; null means as many as `n_heads`.
        d_head: width of a head; null means `d_model / n_heads`.
        d_ff: hidden width of the feed-forward network; null means `4 * d_model`.
        vocab_size: rows of the embedding; null takes the tokenizer's, a larger number pads it.
        dropout: the rate that the parts of the presets share.
        bias: whether the linear maps and norms of the presets have biases.
        layers: parts that differ in a slice of layers, such as `{"3::4": {position: none}}`.
    """

    preset: str | None = None
    context_length: int = 64
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int | None = None
    d_head: int | None = None
    d_ff: int | None = None
    vocab_size: int | None = None
    dropout: float = 0.0
    bias: bool = True
    layers: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What every corpus shares.

    Args:
        batch_size: examples in one optimizer step, over all devices together.
        val_fraction: the part of the corpus that is kept for validation.
        val_fold: which such part of running text: 0 is its end, 1 the part before that, and so on; past
            the first one it begins again at the end. Examples are held out by a rule of their own.
    """

    batch_size: int = 12
    val_fraction: float = 0.1
    val_fold: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long, how precisely and on what strategy a model is trained.

    Args:
        strategy: `auto` takes one process on one device and DDP on several.
        max_steps: optimizer steps.
        micro_batch_size: examples that one device holds at once; null means as many as fit the
            batch without accumulation.
        precision: `32`, or `bf16` autocast over weights in float32.
        gradient_clip: the largest norm of the whole gradient; null does not clip.
        eval_every: steps between two validations; null validates at the end only.
        eval_batches: batches of one validation; null means the whole validation split.
        log_every: steps between two rows of metrics.
        checkpoint_every: steps between two checkpoints; null saves at the end only.
        keep_checkpoints: how many of the newest checkpoints stay.
        sample_every: steps between two samples of text; null samples at the end only.
        sample_tokens: length of a sample; 0 draws none.
        sample_prompt: what a sample starts from.
        compile: compile the model with `torch.compile`.
        threads: CPU threads of each process; null leaves torch's choice.
        tensor_parallel: devices that share each layer, with `strategy: fsdp`.
    """

    strategy: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    max_steps: int = 1000
    micro_batch_size: int | None = None
    precision: Literal["32", "bf16"] = "32"
    gradient_clip: float | None = 1.0
    eval_every: int | None = 250
    eval_batches: int | None = None
    log_every: int = 10
    checkpoint_every: int | None = 500
    keep_checkpoints: int = 2
    sample_every: int | None = None
    sample_tokens: int = 200
    sample_prompt: str = "\n"
    compile: bool = False
    threads: int | None = None
    tensor_parallel: int = 1
