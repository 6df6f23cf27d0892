"""The places in a config that parts fill; a new one is one line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """A place in a config that one of several parts can fill.

    Attributes:
        name: dotted, such as `model.position`; its config group is the same with slashes.
        summary: what the part decides, one line.
        many: several parts may stand there at once, keyed by name (masks, loggers, callbacks).
    """

    name: str
    summary: str
    many: bool = False

    @property
    def group(self) -> str:
        """Its config group, such as `model/position`."""
        return self.name.replace(".", "/")


SLOTS: dict[str, Slot] = {
    slot.name: slot
    for slot in (
        Slot("model.position", "how a token's place is told to the model"),
        Slot("model.attention", "how tokens read one another"),
        Slot("model.mask", "who may read whom; several are joined by 'and'", many=True),
        Slot("model.norm", "how activations are normalised"),
        Slot("model.feed_forward", "the network applied to each token alone"),
        Slot("model.block", "where norms and residual sums stand"),
        Slot("model.embedding", "how a token becomes a vector"),
        Slot("model.head", "how a vector becomes a score for each token"),
        Slot("model.init", "the distribution each parameter starts from"),
        Slot("tokenizer", "how text becomes tokens"),
        Slot("data", "the text that is trained on"),
        Slot("optimizer", "how gradients become updates"),
        Slot("schedule", "the learning rate as a function of the step"),
        Slot("objective", "what the training loss is"),
        Slot("sampler", "how the next token is drawn"),
        Slot("logger", "where metrics go, beside metrics.jsonl", many=True),
        Slot("callback", "what else happens during training", many=True),
    )
}
