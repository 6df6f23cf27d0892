"""nanoGPT's checkpoints, against a nanoGPT written anew, and its loss curve against a plain loop."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gptkit import registry
from gptkit.errors import UserError
from gptkit.interop.nanogpt import from_nanogpt, load_checkpoint
from gptkit.model.assemble import build
from gptkit.train.gradients import clip_factor, global_norm, gradients, scale
from tiny import close, some_tokens

ARGUMENTS = {"n_layer": 3, "n_head": 4, "n_embd": 24, "block_size": 16, "vocab_size": 37, "dropout": 0.0}


class NanoLayer(nn.Module):
    """x + attention(ln_1(x)), then x + mlp(ln_2(x)); one map makes q, k and v."""

    def __init__(self, width: int, heads: int, bias: bool, tanh: bool) -> None:
        super().__init__()
        self.heads, self.tanh = heads, tanh
        self.ln_1, self.ln_2 = nn.LayerNorm(width, bias=bias), nn.LayerNorm(width, bias=bias)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.attn.c_proj = nn.Linear(width, width, bias=bias)
        self.mlp.c_fc = nn.Linear(width, 4 * width, bias=bias)
        self.mlp.c_proj = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = x.shape[1]
        future = torch.ones(count, count, dtype=torch.bool).triu(1)
        parts = []
        q, k, v = self.attn.c_attn(self.ln_1(x)).chunk(3, dim=-1)
        for q_h, k_h, v_h in zip(*(t.chunk(self.heads, dim=-1) for t in (q, k, v)), strict=True):
            scores = q_h @ k_h.mT / math.sqrt(q_h.shape[-1])
            parts.append(torch.softmax(scores.masked_fill(future, -torch.inf), -1) @ v_h)
        x = x + self.attn.c_proj(torch.cat(parts, -1))
        up = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(F.gelu(up, approximate="tanh" if self.tanh else "none"))


class Nano(nn.Module):
    """nanoGPT's model, with its names and its tied head; nothing of gptkit."""

    def __init__(self, *, bias: bool = True, tanh: bool = False, tied: bool = True, **sizes) -> None:
        super().__init__()
        width, vocab = sizes["n_embd"], sizes["vocab_size"]
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(vocab, width)
        self.transformer.wpe = nn.Embedding(sizes["block_size"], width)
        self.transformer.h = nn.ModuleList(
            NanoLayer(width, sizes["n_head"], bias, tanh) for _ in range(sizes["n_layer"])
        )
        self.transformer.ln_f = nn.LayerNorm(width, bias=bias)
        self.lm_head = nn.Linear(width, vocab, bias=False)
        if tied:
            self.transformer.wte.weight = self.lm_head.weight
        torch.manual_seed(3)
        for name, parameter in self.named_parameters():
            spread = 0.2 if parameter.ndim == 2 else 0.3
            nn.init.normal_(parameter, 1.0 if "ln_" in name and name.endswith("weight") else 0.0, spread)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.transformer.wte(tokens) + self.transformer.wpe(torch.arange(tokens.shape[1]))
        for layer in self.transformer.h:
            x = layer(x)
        return self.lm_head(self.transformer.ln_f(x))


def write(path, model: Nano, *, bias: bool | None = True, wrapped: bool = False, masks: bool = False, **more):
    """A `ckpt.pt` as nanoGPT's train.py leaves it."""
    optimizer = torch.optim.AdamW(model.parameters())
    model(some_tokens(1, 4)).sum().backward()
    optimizer.step()
    state = {("_orig_mod." if wrapped else "") + name: tensor for name, tensor in model.state_dict().items()}
    if masks:
        state.update({f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 16, 16).tril() for i in range(3)})
    arguments = ARGUMENTS if bias is None else {**ARGUMENTS, "bias": bias}
    config = {
        "out_dir": "out-char",
        "batch_size": 12,
        "learning_rate": 1e-3,
        "compile": wrapped,
        "beta2": 0.99,
    }
    checkpoint = {
        "model": state, "optimizer": optimizer.state_dict(), "model_args": arguments, "iter_num": 250,
        "best_val_loss": torch.tensor(1.886), "config": config, **more,
    }  # fmt: skip
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_checkpoint_gives_the_same_logits(bias, wrapped, masks, dtype, tmp_path):
    theirs = Nano(**ARGUMENTS, bias=bias).to(dtype)
    path = write(tmp_path / "ckpt.pt", theirs, bias=bias, wrapped=wrapped, masks=masks)
    ours, tokens = from_nanogpt(load_checkpoint(path)).eval(), some_tokens(3, 16, vocab_size=37)
    assert ours.embedding.weight.dtype == dtype
    close(ours(tokens), theirs(tokens), 1e-12 if dtype == torch.float64 else 1e-5)
    assert ours.n_parameters() == sum(p.numel() for p in theirs.parameters())
    assert any(name.endswith("qkv.bias") for name in ours.state_dict()) == bias
    again = build(ours.config).to(dtype).eval()
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again(tokens), ours(tokens))


def test_checkpoints_of_old(tmp_path):
    """No `bias` among the arguments, another GELU, a head of its own."""
    theirs = Nano(**ARGUMENTS, tanh=True, tied=False).double()
    path = write(tmp_path / "ckpt.pt", theirs, bias=None)
    ours, tokens = from_nanogpt(load_checkpoint(path), activation="gelu_tanh").eval(), some_tokens(2, 9)
    close(ours(tokens), theirs(tokens))
    assert "head.table" in ours.state_dict()


class _Trap:
    def __reduce__(self):
        return print, ("the checkpoint ran code",)


def test_a_checkpoint_runs_no_code(tmp_path, capsys):
    path = write(tmp_path / "ckpt.pt", Nano(**ARGUMENTS), config={"learning_rate": _Trap()})
    with pytest.raises(UserError, match=r"ckpt\.pt holds more than tensors and plain values.*not loaded"):
        load_checkpoint(path)
    assert "ran code" not in capsys.readouterr().out


def test_what_is_no_checkpoint_is_told(tmp_path):
    with pytest.raises(UserError, match=r"no file .*missing\.pt.*from=out/ckpt\.pt"):
        load_checkpoint(tmp_path / "missing.pt")
    (tmp_path / "text.pt").write_text("To be, or not to be")
    with pytest.raises(UserError, match=r"text\.pt"):
        load_checkpoint(tmp_path / "text.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(UserError, match=r"empty\.pt"):
        load_checkpoint(tmp_path / "empty.pt")
    whole = write(tmp_path / "ckpt.pt", Nano(**ARGUMENTS)).read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"half\.pt"):
        load_checkpoint(tmp_path / "half.pt")
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"not nanoGPT's: it holds state_dict, epoch"):
        load_checkpoint(tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match=r"it holds a list"):
        load_checkpoint(tmp_path / "list.pt")


def test_sizes_that_are_missing_or_false_are_told(tmp_path):
    found = load_checkpoint(write(tmp_path / "ckpt.pt", Nano(**ARGUMENTS)))
    less = {key: value for key, value in ARGUMENTS.items() if key not in ("n_head", "block_size")}
    with pytest.raises(UserError, match=r"whole numbers for n_head, block_size"):
        from_nanogpt({**found, "model_args": less})
    with pytest.raises(UserError, match=r"embedding\.weight is \(37, 24\) where the config says \(40, 24\)"):
        from_nanogpt({**found, "model_args": {**ARGUMENTS, "vocab_size": 40}})


# The loss curve --------------------------------------------------------------------------------------------

STEPS, WARMUP, RATE, DECAY, CLIP = 40, 5, 3e-3, 0.1, 1.0


def _plain_loop(model: Nano, batches) -> tuple[list[float], list[float]]:
    """nanoGPT's training, as plain as it goes: groups by dimension, clipping, cosine with warm-up."""
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=False, foreach=False)
    losses, norms = [], []
    for step, (tokens, targets) in enumerate(batches):
        lr = RATE * (step + 1) / (WARMUP + 1)
        if step >= WARMUP:
            through = (step - WARMUP) / (STEPS - WARMUP)
            lr = 0.1 * RATE + 0.5 * (1 + math.cos(math.pi * through)) * 0.9 * RATE
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = F.cross_entropy(model(tokens).view(-1, 37), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


def test_the_loss_curve_is_that_of_a_plain_loop_step_by_step(tmp_path):
    text = torch.randint(0, 37, (400,), generator=torch.Generator().manual_seed(4)).cumsum(0) % 37
    starts = torch.randint(0, 400 - 17, (STEPS, 4), generator=torch.Generator().manual_seed(5))
    rows = [torch.stack([text[s : s + 17] for s in row]) for row in starts]
    batches = [(row[:, :-1], row[:, 1:]) for row in rows]
    theirs = Nano(**ARGUMENTS).double()
    ours = from_nanogpt(load_checkpoint(write(tmp_path / "ckpt.pt", theirs)))
    expected, norms = _plain_loop(theirs, batches)
    assert max(norms) > CLIP > min(norms), "clipping must act on some steps and not on others"

    optimizer = registry.load("optimizer", "adamw")(lr=RATE, weight_decay=DECAY).build(ours)
    schedule = registry.load("schedule", "cosine")(warmup_steps=WARMUP, final_fraction=0.1)
    for step, (tokens, targets) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = RATE * schedule.factor(step, STEPS)
        loss = ours.loss(tokens, targets)
        assert loss.item() == pytest.approx(expected[step], rel=1e-10), step
        optimizer.zero_grad()
        loss.backward()
        grads = gradients(ours.parameters())
        norm = global_norm(grads).item()
        assert norm == pytest.approx(norms[step], rel=1e-9), step
        scale(grads, clip_factor(norm, CLIP))
        optimizer.step()
    assert expected[-1] < expected[0] - 0.3
    close(ours(batches[0][0]), theirs(batches[0][0]), 1e-9)
