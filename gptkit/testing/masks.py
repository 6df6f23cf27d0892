"""What a mask promises as a predicate: elementwise, composable, and true to what it says of itself."""

from __future__ import annotations

import torch

from gptkit.testing.checks import law
from gptkit.testing.subject import CONTEXT, Subject

FAR = torch.tensor(
    [*range(CONTEXT), *(2**n + by for n in range(4, 17) for by in (-1, 0, 1))]
)  # places to ask a mask about: some side by side, some up to 65 thousand apart


@law("model.mask")
def elementwise(subject: Subject) -> None:
    """Asked of one query and one key at a time it answers as it does of the whole matrix, with booleans."""
    from gptkit.model.interfaces import MaskContext
    from gptkit.model.masks import dense

    mask, at = subject.part(), torch.arange(CONTEXT)[None]
    whole = dense(mask, at, at, MaskContext())
    assert whole.dtype == torch.bool, f"It answers with {whole.dtype}."
    assert list(whole.shape) == [1, CONTEXT, CONTEXT], f"12 x 12 places gave {list(whole.shape)}."
    for i in range(0, CONTEXT, 3):
        for j in range(CONTEXT):
            one = mask.allows(torch.tensor(i), torch.tensor(j), MaskContext())
            assert bool(one) == bool(whole[0, i, j]), (
                f"Query {i} and key {j} alone: {bool(one)}; in the matrix not."
            )
    rows = dense(mask, at[:, 5:9], at, MaskContext())
    assert torch.equal(rows, whole[:, 5:9]), "Some queries alone get other answers than among all."


@law("model.mask")
def composes(subject: Subject) -> None:
    """With `&`, `|` and `~` it composes as logic says."""
    from gptkit.model.interfaces import MaskContext
    from gptkit.model.masks import Causal, dense

    mask, causal, at = subject.part(), Causal(), torch.arange(CONTEXT)[None]
    own, other = (dense(m, at, at, MaskContext()) for m in (mask, causal))
    for made, expected, word in (
        (mask & causal, own & other, "&"), (mask | causal, own | other, "|"), (~mask, ~own, "~"),
    ):  # fmt: skip
        assert torch.equal(dense(made, at, at, MaskContext()), expected), f"{word} does not compose."


@law("model.mask")
def true_to_its_word(subject: Subject) -> None:
    """What it says of itself holds: is_causal, allows_self, and that it forbids nothing where it does not apply."""
    from gptkit.model.interfaces import MaskContext
    from gptkit.model.masks import dense

    mask, context = subject.part(), MaskContext()
    places = torch.arange(CONTEXT) if mask.has_end else FAR
    matrix = dense(mask, places[None], places[None], context)[0]
    if mask.causal_in(context):
        wrong = (matrix != (places <= places[:, None])).nonzero().tolist()
        q, k = (int(places[i]) for i in wrong[0]) if wrong else (0, 0)
        assert not wrong, (
            f"It says that it comes down to the causal mask and does not, such as for query {q} and key {k}."
        )
    if mask.allows_self:
        assert matrix.diagonal().all(), "It says allows_self, but a token may not read itself."
    if not mask.applies(context):
        assert matrix.all(), "It says that it does not apply, but forbids something."
