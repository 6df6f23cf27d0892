"""How the examples of a step are cut up: every device reads its own, all together read each once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptkit.errors import ConfigError
from gptkit.text.batches import BatchOrder
from gptkit.text.splits import Split
from gptkit.train.data import Documents, Share, StepBatches
from tiny import tiny

TOKENS = np.arange(400, dtype=np.uint16)


def read(devices: int, micro: int | None, step: int, batch_size: int = 8) -> dict[int, torch.Tensor]:
    """The tokens that each slot of a step holds, over all devices."""
    order = BatchOrder(len(TOKENS), 5, batch_size, 3)
    slots = {}
    for rank in range(devices):
        share = Share.of(batch_size, micro, rank, devices)
        got = StepBatches(Split(TOKENS), order, share, 5, 0, step + 1).at(step)
        assert got.tokens.shape == got.targets.shape == (share.accumulation, share.micro, 5)
        assert torch.equal(got.targets, got.tokens + 1)
        slots |= {share.slot(index): got.tokens[index] for index in range(share.accumulation)}
    return slots


@given(
    devices=st.sampled_from([1, 2, 4]),
    micro=st.sampled_from([None, 1, 2]),
    step=st.integers(0, 40),
)
def test_the_order_of_a_step_does_not_depend_on_how_many_read_it(devices, micro, step) -> None:
    slots = read(devices, micro, step)
    together = torch.cat([slots[slot] for slot in sorted(slots)])
    assert torch.equal(together, read(1, None, step)[0])


def test_two_devices_read_what_one_reads_in_two_micro_batches() -> None:
    two, one = read(2, None, 5), read(1, 4, 5)
    assert two.keys() == one.keys() == {0, 1}
    assert all(torch.equal(two[slot], one[slot]) for slot in two)


def test_batches_start_anywhere_and_say_how_many_they_are() -> None:
    order = BatchOrder(len(TOKENS), 5, 4, 3)
    share = Share.of(4, None)
    whole = list(StepBatches(Split(TOKENS), order, share, 5, 0, 30))
    late = StepBatches(Split(TOKENS), order, share, 5, 17, 30)
    assert len(late) == 13
    for one, other in zip(whole[17:], late, strict=True):
        assert one.step == other.step
        assert torch.equal(one.tokens, other.tokens)
    assert len(StepBatches(Split(TOKENS), order, share, 5, 30, 30)) == 0
    assert len(StepBatches(Split(TOKENS), order, share, 5, 31, 30)) == 0


@pytest.mark.parametrize(
    ("size", "micro", "devices", "better"), [(12, 5, 1, "10"), (7, None, 2, "8"), (6, 2, 2, "8")]
)
def test_what_cannot_be_shared_is_refused_with_what_could(size, micro, devices, better) -> None:
    with pytest.raises(ConfigError, match=rf"data\.batch_size: {size} examples .* such as {better}"):
        Share.of(size, micro, 0, devices)


def test_documents_are_told_only_to_a_mask_that_asks() -> None:
    tokens = torch.tensor([[1, 2, 0, 3, 0, 0, 4]])
    asks = Documents(tiny(mask=["causal", "document"]), end_of_text=0)
    assert asks.batch(tokens, tokens).documents.tolist() == [[0, 0, 0, 1, 1, 2, 3]]
    assert Documents(tiny(mask="causal"), end_of_text=0).batch(tokens, tokens).documents is None
    assert (
        Documents(tiny(mask=["causal", "document"]), end_of_text=None).batch(tokens, tokens).documents is None
    )
