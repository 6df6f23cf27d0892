"""Reading a stranger's config: each field is taken, told to change nothing, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gptkit.errors import UserError

_REQUIRED: Any = object()
# What files say that has no part in the logits: names, token numbers, training's settings, generation's.
NEUTRAL = frozenset(
    {
        "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "_num_labels",
        "add_cross_attention", "architectures", "auto_map", "bad_words_ids", "begin_suppress_tokens",
        "bos_token_id", "cache_implementation", "chunk_size_feed_forward", "classifier_dropout",
        "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample", "dtype",
        "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
        "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id",
        "gradient_checkpointing", "id2label", "init_device", "init_std", "initializer_range", "is_decoder",
        "is_encoder_decoder", "label2id", "layerdrop", "length_penalty", "max_length", "min_length",
        "model_type", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_labels",
        "num_return_sequences", "output_attentions", "output_hidden_states", "output_past",
        "output_router_logits", "output_scores", "pad_token_id", "prefix", "pretraining_tp", "problem_type",
        "pruned_heads", "remove_invalid_values", "repetition_penalty", "return_dict",
        "return_dict_in_generate", "sep_token_id", "slow_but_exact", "suppress_tokens",
        "task_specific_params", "temperature", "tf_legacy_loss", "tokenizer_class", "top_k", "top_p",
        "torch_dtype", "torchscript", "transformers_version", "typical_p", "use_bfloat16", "use_cache",
        "verbose",
    }
)  # fmt: skip


class Fields:
    """The fields of a `config.json`; `done` refuses those that nobody took.

    Args:
        config: as parsed.
        kind: the model's `model_type`, for messages.
        silent: what the family takes where the file is silent.
    """

    def __init__(self, config: Mapping[str, Any], kind: str, silent: Mapping[str, Any] | None = None) -> None:
        self.config, self.kind, self.silent = config, kind, silent or {}
        self.left = set(config) - NEUTRAL
        self.problems: list[str] = []

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """A field's value; where the file is silent the family's, or else the default."""
        self.left.discard(name)
        if name not in self.config:
            default = self.silent.get(name, default)
            if default is _REQUIRED:
                self.problems.append(f"{name} is missing")
                return 1
            return default
        return self.config[name]

    def named(self, start: str) -> list[str]:
        """The names of the file's fields that begin so."""
        return [name for name in self.config if name.startswith(start)]

    def whole(self, name: str, default: Any = _REQUIRED, *, least: int = 1) -> int:
        """A whole number of at least so much."""
        value = self.take(name, default)
        if type(value) is not int or value < least:
            self.problems.append(f"{name}={value!r} is no whole number above {least - 1}")
            return max(least, 1)
        return value

    def whole_or(self, name: str, otherwise: Any) -> Any:
        """A whole number above 0, or something else where the file is silent or says null."""
        return otherwise if self.take(name, None) is None else self.whole(name)

    def number(self, name: str, default: float, *, divides: bool = False) -> float:
        """A number of at least 0; above 0 where something is divided by it."""
        value = self.take(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (0 < value < math.inf or (value == 0 and not divides)):
            self.refuse(name, f"only a number {'above' if divides else 'of at least'} 0 can be held")
            return default
        return value

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse a field with any other value; absent is as good as allowed."""
        value = self.take(name, allowed[0])
        if value not in allowed:
            self.refuse(name, f"only {' or '.join(repr(a) for a in allowed)} can be held")

    def refuse(self, name: str, why: str) -> None:
        """Note that a field's value cannot be held."""
        self.problems.append(f"{name}={self.config.get(name)!r}: {why}")

    def done(self) -> None:
        """Check that all was understood.

        Raises:
            UserError: a field is missing, cannot be held, or is not known; tells all of them.
        """
        unknown = [f"{name}={self.config[name]!r} is not known" for name in sorted(self.left)]
        if self.problems or unknown:
            told = "; ".join([*dict.fromkeys(self.problems), *unknown])
            raise UserError(f"This {self.kind} cannot be read: {told}.")
