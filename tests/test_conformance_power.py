"""Parts that are wrong on purpose: each is caught by the law that it breaks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit import registry
from gptkit.generate.samplers import Sample
from gptkit.model.attention import GroupedQuery, MultiHead
from gptkit.model.blocks import PreNorm
from gptkit.model.cache import KeyValueCache
from gptkit.model.embeddings import TokenEmbedding
from gptkit.model.feed_forward import MLP
from gptkit.model.heads import LanguageModelHead
from gptkit.model.init import GPT2Init
from gptkit.model.interfaces import DistanceBias, Mask, Norm, PositionalEncoding, Step
from gptkit.model.masks import Causal, SlidingWindow
from gptkit.model.norms import LayerNorm
from gptkit.model.positions import Learned
from gptkit.registry import Component, Origin
from gptkit.testing import checks_of, run_check
from gptkit.testing.subject import Subject
from gptkit.text.tokenizers.plain import ByteTokenizer, CharTokenizer
from gptkit.train.optimizers import AdamW
from gptkit.train.schedules import Cosine

FAULTS: list[tuple[str, str, type]] = []


def wrong(slot: str, law: str):
    """This class breaks that law of its slot."""

    def decorate(cls: type) -> type:
        FAULTS.append((slot, law, cls))
        return cls

    return decorate


# Positions


class Position(PositionalEncoding):
    def __init__(self, shape) -> None:
        super().__init__()
        self.width = shape.d_model

    def waves(self, positions: Tensor) -> Tensor:
        return torch.sin(positions.double().unsqueeze(-1) * torch.linspace(0.1, 1.0, self.width).double())


@wrong("model.position", "relative_as_it_says")
class AbsoluteThatSaysRelative(Position):
    is_relative = True

    def embed(self, x, positions):
        return x + self.waves(positions).to(x.dtype)


@wrong("model.position", "relative_as_it_says")
class RelativeThatSaysNothing(DistanceBias):
    is_relative = False

    def __init__(self, shape) -> None:
        super().__init__()

    def bias_of(self, distance):
        return -distance.abs().double().unsqueeze(0)


@wrong("model.position", "relative_as_it_says")
class KeysTurnedBackwards(Position):
    is_relative = True

    def rotate(self, q, k, q_positions, k_positions):
        def turn(x, sign):
            angle = sign * q_positions[:, None, :, None].to(x.dtype)
            a, b = x.chunk(2, dim=-1)
            return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)

        return turn(q, 1), turn(k, -1)


@wrong("model.position", "ends_where_it_says")
class TableThatClamps(Learned):
    def require(self, last_position):
        pass

    def embed(self, x, positions):
        return super().embed(x, positions.clamp(max=self.max_positions - 1))


@wrong("model.position", "ends_where_it_says")
class NaNPastTheContext(Position):
    def embed(self, x, positions):
        return x + self.waves((12.5 - positions.double()).sqrt()).to(x.dtype)


@wrong("model.position", "decoding_equals_reading")
class CountsFromZeroEachTime(Position):
    def embed(self, x, positions):
        return x + self.waves(torch.arange(x.shape[1])[None]).to(x.dtype)


@wrong("model.position", "causal")
class ShareOfTheLength(Position):
    def embed(self, x, positions):
        return x + self.waves(10 * positions / positions.shape[-1]).to(x.dtype)


@wrong("model.position", "repeats_itself")
class MovesOnEachTime(Position):
    calls = 0

    def embed(self, x, positions):
        self.calls += 1
        return x + self.waves(positions + self.calls).to(x.dtype)


@wrong("model.position", "repeats_itself")
class NoiseInEvaluation(Position):
    def embed(self, x, positions):
        return x + self.waves(positions).to(x.dtype) + 0.01 * torch.randn_like(x)


@wrong("model.position", "breaks_the_symmetry")
class TellsNothing(Position):
    pass


@wrong("model.position", "leaves_no_trace")
class DrawsFromTheGlobalGenerator(Position):
    def embed(self, x, positions):
        torch.rand(1)
        return x + self.waves(positions).to(x.dtype)


@wrong("model.position", "leaves_no_trace")
class ChangesTheThreads(Position):
    def embed(self, x, positions):
        torch.set_num_threads(torch.get_num_threads() + 1)
        return x + self.waves(positions).to(x.dtype)


@wrong("model.position", "saves_and_loads")
class StateOutsideTheState(Position):
    def __init__(self, shape) -> None:
        super().__init__(shape)
        self.table = torch.randn(64, shape.d_model)

    def embed(self, x, positions):
        return x + self.table[positions].to(x.dtype)


@wrong("model.position", "survives_bfloat16")
class ForgetsTheDtype(Position):
    def embed(self, x, positions):
        return x + self.waves(positions)


# Masks


@wrong("model.mask", "true_to_its_word")
class CausalOffByOne(Causal):
    def allows(self, q_positions, k_positions, context):
        return k_positions <= q_positions + 1


@wrong("model.mask", "elementwise")
class AnswersWithNumbers(Causal):
    is_causal = False

    def allows(self, q_positions, k_positions, context):
        return (k_positions <= q_positions).float()


@wrong("model.mask", "elementwise")
class LooksAtTheShape(Mask):
    def allows(self, q_positions, k_positions, context):
        far = (q_positions - k_positions).abs() < (q_positions.shape[1] if q_positions.ndim else 3)
        return far & (q_positions >= k_positions)


@wrong("model.mask", "true_to_its_word")
class NotEvenItself(SlidingWindow):
    def allows(self, q_positions, k_positions, context):
        return k_positions < q_positions


@wrong("model.mask", "true_to_its_word")
class SaysItDoesNotApply(SlidingWindow):
    def allows(self, q_positions, k_positions, context):
        return (q_positions - k_positions).abs() < 3

    def applies(self, context):
        return False


@wrong("model.mask", "composes")
class AndIsOr(SlidingWindow):
    def allows(self, q_positions, k_positions, context):
        return (q_positions - k_positions).abs() < 3

    def __and__(self, other):
        return self | other


# Attention


class ByHand(MultiHead):
    """Softmax attention as its formula, with places to go wrong."""

    def forward(self, x, step: Step):
        batch, length, _ = x.shape
        qkv = self.qkv(x).view(batch, length, -1, self.d_head).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=1)
        q, k, v = self.turned(q, k, v, step)
        if step.cache is not None:
            k, v = step.cache.append(k, v)
        y = self.read(q, k, v, step)
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))

    def turned(self, q, k, v, step):
        return *self.position.rotate(q, k, step.q_positions, step.q_positions), v

    def read(self, q, k, v, step):
        scores = q @ k.transpose(-2, -1) * self.scale
        bias = self.position.score_bias(q, k, step.q_positions, step.k_positions)
        scores = scores if bias is None else scores + bias
        pattern = scores.masked_fill(~self.allowed(step), -torch.inf).softmax(-1)
        if step.patterns is not None:
            step.patterns.append(pattern)
        return pattern @ v

    def allowed(self, step):
        from gptkit.model.kernels import allowed

        return allowed(step, self.mask)


@wrong("model.attention", "reads_nothing_as_nothing")
class NaNForAnEmptyRow(ByHand):
    pass


@wrong("model.attention", "causal")
class ReadsOneAhead(ByHand):
    def allowed(self, step):
        return step.k_positions[:, None, None, :] <= step.q_positions[:, None, :, None] + 1


@wrong("model.attention", "causal")
class SoftmaxOverQueries(ByHand):
    def read(self, q, k, v, step):
        scores = (q @ k.transpose(-2, -1) * self.scale).masked_fill(~self.allowed(step), -1e9)
        return scores.softmax(-2) @ v


@wrong("model.attention", "reads_what_it_may")
class ReadsItselfAlone(ByHand):
    def read(self, q, k, v, step):
        return v


@wrong("model.attention", "reads_what_it_may")
class AlwaysAWindow(ByHand):
    def allowed(self, step):
        distance = step.q_positions[:, None, :, None] - step.k_positions[:, None, None, :]
        return super().allowed(step) & (distance < 4)


@wrong("model.attention", "padding_is_unread")
class ReadsPadding(ByHand):
    def allowed(self, step):
        index = torch.arange(step.k_positions.shape[-1])
        return index[None, None, None, :] <= index[-step.q_positions.shape[-1] :][None, None, :, None]


@wrong("model.attention", "decoding_equals_reading")
class CacheThatForgets(MultiHead):
    def new_cache(self, batch, capacity, device, dtype, slack=1):
        class Forgetful(KeyValueCache):
            def append(self, k, v):
                keys, values = super().append(k, v)
                return torch.cat([keys[:, :, :1] * 0, keys[:, :, 1:]], dim=2), values

        width = (self.kv_heads, self.d_head)
        return Forgetful(batch, capacity, width, width, device, dtype, slack)


@wrong("model.attention", "hears_rotations")
class TurnsValues(ByHand):
    def turned(self, q, k, v, step):
        q, k = self.position.rotate(q, k, step.q_positions, step.q_positions)
        return q, k, self.position.rotate(v, v, step.q_positions, step.q_positions)[1]


@wrong("model.attention", "hears_rotations")
class TurnsNothing(ByHand):
    def turned(self, q, k, v, step):
        return q, k, v


@wrong("model.attention", "hears_rotations")
class TurnsFromZeroEachTime(ByHand):
    def turned(self, q, k, v, step):
        at = step.q_positions - step.q_positions[:, :1]
        return *self.position.rotate(q, k, at, at), v


@wrong("model.attention", "hears_biases")
class BiasAfterTheSoftmax(ByHand):
    def read(self, q, k, v, step):
        scores = (q @ k.transpose(-2, -1) * self.scale).masked_fill(~self.allowed(step), -1e9)
        bias = self.position.score_bias(q, k, step.q_positions, step.k_positions)
        return (scores.softmax(-1) + (0 if bias is None else bias.masked_fill(~self.allowed(step), 0.0))) @ v


@wrong("model.attention", "shows_its_pattern")
class ShowsScoresInstead(ByHand):
    def read(self, q, k, v, step):
        if step.patterns is not None:
            step.patterns.append((q @ k.transpose(-2, -1) * self.scale).softmax(-1))
        return super().read(q, k, v, Step(step.q_positions, step.k_positions, step.context, plain=step.plain))


@wrong("model.attention", "kernels_agree")
class KernelsOfTwoScales(MultiHead):
    def __init__(
        self, shape, position, mask, *, kernel: Literal["sdpa", "eager"] = "sdpa", bias: bool = True
    ) -> None:
        super().__init__(shape, position, mask, kernel=kernel, bias=bias)
        self.scale = self.scale if kernel == "sdpa" else 1.0


@wrong("model.attention", "leaves_its_input_alone")
class WritesIntoItsInput(MultiHead):
    def forward(self, x, step):
        with torch.no_grad():
            x.mul_(1.001)
        return super().forward(x, step)


@wrong("model.attention", "rows_stand_alone")
class CentresOverTheBatch(MultiHead):
    def forward(self, x, step):
        return super().forward(x - x.mean(0, keepdim=True), step)


@wrong("model.attention", "gradients_reach_all")
class ParameterWithoutUse(MultiHead):
    def __init__(self, shape, position, mask) -> None:
        super().__init__(shape, position, mask)
        self.unused = nn.Parameter(torch.zeros(3, 3))


@wrong("model.attention", "gradients_reach_all")
class DetachedQueries(ByHand):
    def turned(self, q, k, v, step):
        return q.detach(), k.detach(), v.detach()


@wrong("model.attention", "shapes_hold")
class TwoHeadsForEver(GroupedQuery):
    def forward(self, x, step):
        y = super().forward(x, step)
        return y.view(*y.shape[:2], 2, 8).flatten(2)


@wrong("model.attention", "order_is_told_by_positions_alone")
class KnowsTheOrder(MultiHead):
    def forward(self, x, step):
        return super().forward(x * torch.linspace(0.5, 1.5, x.shape[1], dtype=x.dtype)[None, :, None], step)


# Norms, networks, blocks


@wrong("model.norm", "each_token_alone")
class NormOverTokens(Norm):
    def __init__(self, width) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return (x - x.mean(1, keepdim=True)) * self.weight


@wrong("model.norm", "survives_bfloat16")
class NormInFloat32(LayerNorm):
    def forward(self, x):
        return super().forward(x).float() if x.dtype == torch.bfloat16 else super().forward(x)


@wrong("model.feed_forward", "each_token_alone")
class MixesTokens(MLP):
    def forward(self, x):
        return super().forward(x + x.roll(1, dims=1))


@wrong("model.feed_forward", "causal")
class LooksAhead(MLP):
    def forward(self, x):
        return super().forward(x + x.flip(1).cumsum(1).flip(1))


@wrong("model.feed_forward", "repeats_itself")
class DropoutInEvaluation(MLP):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, training=True)


@wrong("model.block", "gradients_reach_all")
class ForgetsTheNetwork(PreNorm):
    def forward(self, x, step):
        return x + self.attention(self.attention_norm(x), step)


@wrong("model.block", "reads_what_it_may")
class ForgetsAttention(PreNorm):
    def forward(self, x, step):
        return x + self.feed_forward(self.feed_forward_norm(x))


@wrong("model.embedding", "rows_stand_alone")
class CentredOverTheBatch(TokenEmbedding):
    def forward(self, tokens, positions):
        x = super().forward(tokens, positions)
        return x - x.mean(0, keepdim=True)


@wrong("model.head", "loss_is_of_the_logits")
class CountsWhatDoesNot(LanguageModelHead):
    def loss(self, x, targets, reduction="mean"):
        return super().loss(x, targets.clamp(min=0), reduction)


@wrong("model.init", "draws_from_its_generator")
class AllAlike(GPT2Init):
    def fill(self, name, parameter, role, generator):
        parameter.fill_(
            0.0 if role == "bias" else 1.0 if role == "norm" and name.endswith("weight") else 0.02
        )


@wrong("model.init", "draws_from_its_generator")
class AnotherGenerator(GPT2Init):
    def fill(self, name, parameter, role, generator):
        super().fill(name, parameter, role, torch.default_generator)


# Text and training


@wrong("tokenizer", "round_trips")
class DropsSpaces(ByteTokenizer):
    def encode(self, text, special=False):
        return super().encode(text.strip(), special)


@wrong("tokenizer", "special_text_is_plain")
class ObeysTheText(registry.load("tokenizer", "gpt2")):
    def encode(self, text, special=False):
        return super().encode(text, True)


@wrong("tokenizer", "keeps_its_vocabulary")
class ForgetsItsLetters(CharTokenizer):
    def state(self):
        return {}

    def set_state(self, state):
        pass


@wrong("tokenizer", "batches_alike")
class SortsTheBatch(ByteTokenizer):
    def encode_batch(self, texts, special=False):
        return super().encode_batch(sorted(texts), special)


class Optimizer(AdamW):
    def __init__(self, *, weight_decay: float = 0.1) -> None:
        super().__init__(weight_decay=weight_decay)


@wrong("optimizer", "decays_matrices_alone")
class DecaysAll(Optimizer):
    def build(self, model):
        return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)


@wrong("optimizer", "holds_each_parameter_once")
class LeavesBiases(Optimizer):
    def build(self, model):
        return torch.optim.AdamW([p for p in model.parameters() if p.ndim > 1], lr=1e-3)


@wrong("optimizer", "lowers_the_loss")
class Climbs(Optimizer):
    def build(self, model):
        return torch.optim.AdamW(model.parameters(), lr=1e-3, maximize=True)


@wrong("optimizer", "goes_on_exactly")
class ForgetsItsState(Optimizer):
    def build(self, model):
        made = super().build(model)
        made.load_state_dict = lambda state: None
        return made


@wrong("schedule", "is_a_function_of_the_step")
class CountsItsCalls(Cosine):
    calls = 0

    def factor(self, step, max_steps):
        self.calls += 1
        return min(1.0, self.calls / 1000)


@wrong("schedule", "is_a_function_of_the_step")
class StartsAtNothing(Cosine):
    def factor(self, step, max_steps):
        return 0.0 if step == 0 else super().factor(step, max_steps)


@wrong("sampler", "draws_what_it_says")
class DoesNotSumToOne(Sample):
    def probabilities(self, logits, history=None):
        return 0.9 * super().probabilities(logits, history)


@wrong("sampler", "draws_what_it_says")
class ChangesTheScores(Sample):
    def probabilities(self, logits, history=None):
        logits.div_(2.0)
        return super().probabilities(logits, history)


@pytest.mark.parametrize(("slot", "law", "cls"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_the_law_catches_it(
    slot: str, law: str, cls: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(cls, "__module__", "wrong_parts")
    monkeypatch.setitem(registry._registered, (slot, "wrong"), cls)
    monkeypatch.chdir(tmp_path)
    origin = Origin("session", "wrong_parts", "", tmp_path)
    subject = Subject(Component(slot, "wrong", origin, "wrong_parts", cls.__name__, live=cls), {})
    check = next(check for check in checks_of(slot) if check.name == law)
    generator = copy.deepcopy(torch.get_rng_state())
    outcome = run_check(check, subject)
    torch.set_num_threads(threads)
    torch.set_rng_state(generator)
    assert outcome.status == "failed", (
        f"{cls.__name__} was not caught by {law}: {outcome.status} {outcome.told}"
    )


def test_there_are_enough_of_them_and_every_law_of_models_has_one() -> None:
    assert len(FAULTS) >= 40
    caught: set[Any] = {law for _, law, _ in FAULTS}
    slots = [
        "model.position",
        "model.attention",
        "model.mask",
        "model.norm",
        "tokenizer",
        "optimizer",
        "sampler",
    ]
    every = {check.name for slot in slots for check in checks_of(slot) if not check.once}
    assert not every - caught - {"rebuilds_alike", "needs_no_memory_to_plan", "copies_whole", "learns"}
