"""The claims of the explainer of GPTs that this project grew from, each as a test."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from gptkit.model.assemble import part
from gptkit.model.positions import NoPosition
from tiny import VOCAB, close, normal, scatter, shape, some_tokens, step, tiny

ATTENTIONS = ["multi_head", "grouped_query", "summed_heads", "unnormalised"]
FORMS = pytest.mark.parametrize("name", ATTENTIONS)
WORDS = {"le": 0, "chat": 1, "mange": 2, "la": 3, "souris": 4}


def _say(sentence: str) -> torch.Tensor:
    return torch.tensor([[WORDS[word] for word in sentence.lower().split()]])


def _sizes(name: str) -> dict:
    return {"attention": name, "n_kv_heads": 2 if name == "grouped_query" else None}


# Alice and Bob: n = 2 people, d = 42 numbers each, queries and keys of m = 5 -------------------------------


@pytest.fixture
def village():
    """Alice, Bob, and one head of anger: Q and K from 42 to 5 numbers, V from 42 to 42."""
    return {
        "people": normal(2, 42), "Q": normal(5, 42, seed=1), "K": normal(5, 42, seed=2),
        "V": normal(42, 42, seed=3),
    }  # fmt: skip


def _head(name: str, village: dict, **options):
    of = shape(d_model=42, n_heads=1, d_head=5)
    head = part("attention", {"name": name, **options}, of, NoPosition(of), part("mask", "full")).double()
    with torch.no_grad():
        head.qk.weight.copy_(torch.cat([village["Q"], village["K"]]))
        head.value.weight.copy_(village["V"])
    return head


def test_alice_and_bob_by_hand(village):
    alice, bob = village["people"].numpy()
    Q, K, V = (village[name].numpy() for name in "QKV")
    q = [[sum(Q[r, c] * p[c] for c in range(42)) for r in range(5)] for p in (alice, bob)]
    k = [[sum(K[r, c] * p[c] for c in range(42)) for r in range(5)] for p in (alice, bob)]
    v = [[sum(V[r, c] * p[c] for c in range(42)) for r in range(42)] for p in (alice, bob)]
    after = []
    for i, person in enumerate((alice, bob)):
        anger = [sum(a * b for a, b in zip(q[i], k[j], strict=True)) / math.sqrt(5) for j in range(2)]
        shares = [math.exp(a) / (math.exp(anger[0]) + math.exp(anger[1])) for a in anger]
        assert sum(shares) == pytest.approx(1)
        after.append([person[c] + shares[0] * v[0][c] + shares[1] * v[1][c] for c in range(42)])
    people = village["people"].unsqueeze(0)
    head = _head("summed_heads", village)
    assert tuple(head.qk.weight.shape) == (2 * 5, 42)
    assert tuple(head.value.weight.shape) == (42, 42)
    close(people + head(people, step(2)), np.array([after]))


def test_the_first_formula_by_hand(village):
    """p'_0 = p_0 + (k_0 . q_0) v_0 + (k_1 . q_0) v_1, and P' = P + Q K^T V."""
    P = village["people"].numpy()
    q, k, v = (P @ village[name].numpy().T for name in "QKV")
    after = [
        P[0] + (k[0] @ q[0]) * v[0] + (k[1] @ q[0]) * v[1],
        P[1] + (k[0] @ q[1]) * v[0] + (k[1] @ q[1]) * v[1],
    ]
    people = village["people"].unsqueeze(0)
    ours = people + _head("unnormalised", village)(people, step(2))
    close(ours, np.stack(after)[None])
    close(ours, (P + q @ k.T @ v)[None])


def test_the_warning_about_the_first_formula_is_right(village):
    """Without the softmax it is another formula, its weights sum to nothing in particular, and what a
    person takes in grows with the crowd and with the cube of the mood; with it, both stay bounded."""
    people = village["people"].unsqueeze(0)
    true, false = _head("summed_heads", village), _head("unnormalised", village)
    assert not torch.isclose(true(people, step(2)), false(people, step(2))).any()
    patterns: list[torch.Tensor] = []
    true(people, step(2, patterns=patterns))
    false(people, step(2, patterns=patterns))
    close(patterns[0].sum(-1), torch.ones(1, 1, 2))
    assert (patterns[1].sum(-1) - 1).abs().min() > 0.1
    assert patterns[1].min() < 0

    crowd = people.repeat(1, 50, 1)
    close(false(crowd, step(100))[:, :2], 50 * false(people, step(2)), 1e-10)
    close(true(crowd, step(100))[:, :2], true(people, step(2)), 1e-11)
    close(false(10 * people, step(2)), 1000 * false(people, step(2)), 1e-10)
    values = people @ village["V"].T
    assert true(10 * people, step(2)).norm() <= 10 * values.norm(dim=-1).max() * 2**0.5


def test_the_effect_of_several_heads_is_summed():
    """Each head as a layer by itself, their contributions added, are the layer of all heads."""
    of, one = shape(), shape(n_heads=1, d_head=4)
    layer = scatter(part("attention", "summed_heads", of, NoPosition(of), part("mask", "causal")))
    x, total = normal(2, 6, 16), torch.zeros(2, 6, 16, dtype=torch.float64)
    for h in range(4):
        head = part("attention", "summed_heads", one, NoPosition(one), part("mask", "causal")).double()
        with torch.no_grad():
            rows = slice(4 * h, 4 * h + 4)
            head.qk.weight.copy_(torch.cat([layer.qk.weight[:16][rows], layer.qk.weight[16:][rows]]))
            head.value.weight.copy_(layer.value.weight[16 * h : 16 * h + 16])
        total = total + head(x, step(6))
    close(layer(x, step(6)), total)


def test_a_mask_is_minus_infinity_before_the_softmax_not_zero_after(village):
    """Alice does not hear Bob: her shares are as if he were not there."""
    head = _head("summed_heads", village)
    head.__dict__["mask"] = part("mask", {"explicit": {"matrix": [[1, 0], [1, 1]]}})
    people, patterns = village["people"].unsqueeze(0), []
    head(people, step(2, patterns=patterns))
    assert patterns[0][0, 0, 0].tolist() == [1.0, 0.0]
    close(patterns[0][0, 0, 1].sum(), 1.0)


# Order ----------------------------------------------------------------------------------------------------


@FORMS
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(5)))
def test_attention_cannot_tell_order(name, order):
    """Without positions, and with every word reading every word, a permutation of the words permutes
    the result: 'Le chat mange la souris' and 'la souris mange le chat' hold the same vectors."""
    model = tiny(position="none", mask="full", **_sizes(name))
    tokens = _say("Le chat mange la souris")
    close(model(tokens[:, order]), model(tokens)[:, order])


@FORMS
def test_le_chat_mange_la_souris(name):
    cat, mouse = _say("le chat mange la souris"), _say("la souris mange le chat")
    blind = tiny(position="none", mask="full", **_sizes(name))
    eats = 2  # 'mange' stands in the middle of both, and reads the same words
    close(blind(cat)[:, eats], blind(mouse)[:, eats])


@FORMS
@pytest.mark.parametrize("position", ["sinusoidal", "learned", "alibi", "rotary"])
def test_any_position_encoding_tells_them_apart(name, position):
    seeing = tiny(position=position, mask="full", **_sizes(name))
    cat, mouse = seeing(_say("le chat mange la souris")), seeing(_say("la souris mange le chat"))
    assert not torch.isclose(cat[:, 2], mouse[:, 2], rtol=1e-6, atol=1e-6).any()


@FORMS
@pytest.mark.parametrize("position", ["sinusoidal", "learned", "alibi", "rotary"])
@pytest.mark.parametrize("mask", ["causal", "full"])
def test_where_a_word_stands_counts_not_when_it_is_given(name, position, mask):
    """The words in any order, each with its position, are the same text; the causal mask goes by it."""
    model = tiny(position=position, mask=mask, **_sizes(name))
    tokens, order = some_tokens(2, 8), torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
    close(model(tokens[:, order], positions=order.unsqueeze(0)), model(tokens)[:, order])


@FORMS
def test_a_causal_mask_tells_order_as_well(name):
    blind = tiny(position="none", **_sizes(name))
    cat, mouse = blind(_say("le chat mange la souris")), blind(_say("la souris mange le chat"))
    assert not torch.isclose(cat[:, 2], mouse[:, 2], rtol=1e-6, atol=1e-6).any()


def test_the_formula_of_positions():
    """e(pos)_j = sin(pos / 10000^(j/d)) for even j, cos(pos / 10000^((j-1)/d)) for odd j."""
    model = tiny(position="sinusoidal", n_layers=0)
    tokens = some_tokens(1, 12)
    x = model.embedding.weight.detach().numpy()[tokens[0]]
    for pos in range(12):
        for j in range(16):
            x[pos, j] += (
                math.sin(pos / 10000 ** (j / 16)) if j % 2 == 0 else math.cos(pos / 10000 ** ((j - 1) / 16))
            )
    close(model(tokens)[0], x @ model.embedding.weight.detach().numpy().T)


def test_the_word_at_a_position_is_the_sum_of_both_vectors():
    model = tiny(position="learned")
    vector = model.embedding(torch.tensor([[7]]), torch.tensor([[11]]))
    close(vector[0, 0], model.embedding.weight[7] + model.position.weight[11])


# Time -----------------------------------------------------------------------------------------------------

CAUSAL = {
    "causal": "causal",
    "window": {"causal": {}, "sliding_window": {"window": 3}},
    "documents": {"causal": {}, "document": {}, "padding": {}},
}


@FORMS
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("mask", CAUSAL)
@pytest.mark.parametrize("position", ["learned", "alibi"])
def test_the_future_is_not_read_to_the_last_bit(name, kernel, mask, position):
    attention = {"name": name} if name == "unnormalised" else {"name": name, "kernel": kernel}
    model = tiny(position=position, mask=CAUSAL[mask], **{**_sizes(name), "attention": attention}).float()
    tokens, now = some_tokens(2, 12), torch.arange(12)
    told = {"documents": torch.tensor([[0] * 5 + [1] * 7] * 2)} if mask == "documents" else {}
    with torch.no_grad():
        logits = model(tokens, **told)
        for i in (0, 4, 10):
            other = torch.where(now > i, (tokens + 1 + now) % VOCAB, tokens)
            changed = model(other, **told)
            assert torch.equal(changed[:, : i + 1], logits[:, : i + 1])
            assert not torch.equal(changed[:, i + 1], logits[:, i + 1])


def test_the_future_is_not_read_at_the_size_of_a_fused_kernel():
    """Beyond the blocks of 32 and 512 that fused kernels work in."""
    model = tiny(context_length=600, n_layers=1, position="sinusoidal").float()
    tokens = some_tokens(1, 600)
    with torch.no_grad():
        logits = model(tokens)
        for i in (30, 31, 32, 511, 512):
            other = tokens.clone()
            other[:, i + 1 :] = 3
            assert torch.equal(model(other)[:, : i + 1], logits[:, : i + 1])


@FORMS
@pytest.mark.parametrize("position", ["none", "sinusoidal", "learned"])
def test_one_pass_gives_k_predictions(name, position):
    """P_i is the prediction from the tokens up to i: one pass equals k passes over k prefixes."""
    model = tiny(position=position, **_sizes(name))
    tokens = some_tokens(2, 8)
    logits = model(tokens)
    for k in range(1, 9):
        close(model(tokens[:, :k])[:, -1], logits[:, k - 1])
        close(model(tokens[:, :k], last_only=True)[:, 0], logits[:, k - 1])


def test_in_one_layer_a_full_mask_reads_the_future():
    model = tiny(mask="full")
    tokens, other = some_tokens(), some_tokens()
    other[:, -1] = (other[:, -1] + 1) % VOCAB
    assert not torch.isclose(model(tokens)[:, 0], model(other)[:, 0]).any()


# Padding --------------------------------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize("position", ["none", "sinusoidal", "learned", "alibi", "rotary"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "mask", [["causal", "padding"], ["full", "padding"], ["causal"], ["full"]], ids="-".join
)
def test_a_padded_batch_gives_what_the_texts_give_alone(name, position, side, mask):
    model = tiny(position=position, mask=mask, **_sizes(name))
    texts = [some_tokens(1, length, seed=length)[0] for length in (2, 12, 7)]
    tokens = torch.full((3, 12), 5)
    padding = torch.ones(3, 12, dtype=torch.bool)
    places = []
    for row, text in enumerate(texts):
        start = 12 - len(text) if side == "left" else 0
        places.append(slice(start, start + len(text)))
        tokens[row, places[row]], padding[row, places[row]] = text, False
    logits = model(tokens, padding=padding)
    assert logits.isfinite().all()
    for row, text in enumerate(texts):
        close(logits[row, places[row]], model(text.unsqueeze(0))[0])
    tokens[padding] = 9  # whatever stands there
    assert torch.equal(model(tokens, padding=padding)[~padding], logits[~padding])


def test_padding_is_worth_nothing_in_the_loss():
    model = tiny(mask=["causal", "padding"])
    text, targets = some_tokens(1, 6), some_tokens(1, 6, seed=1)
    alone = model.loss(text, targets)
    expected = torch.autograd.grad(alone, list(model.parameters()))
    wide, aim = torch.full((1, 11), 3), torch.full((1, 11), -100)
    padding = torch.ones(1, 11, dtype=torch.bool)
    wide[:, 5:], aim[:, 5:], padding[:, 5:] = text, targets, False
    loss = model.loss(wide, aim, padding=padding)
    close(loss, alone)
    for ours, theirs in zip(torch.autograd.grad(loss, list(model.parameters())), expected, strict=True):
        close(ours, theirs)


# Packing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["none", "alibi", "rotary"])
def test_documents_in_one_row_do_not_read_one_another(position):
    model = tiny(position=position, mask=["causal", "document"])
    one, two = some_tokens(1, 5), some_tokens(1, 7, seed=1)
    packed = model(torch.cat([one, two], 1), documents=torch.tensor([[4] * 5 + [2] * 7]))
    close(packed, torch.cat([model(one), model(two)], 1))


def test_positions_may_start_anew_in_each_document():
    model = tiny(position="learned", mask=["document", "causal"])
    one, two = some_tokens(1, 5), some_tokens(1, 7, seed=1)
    at = torch.cat([torch.arange(5), torch.arange(7)]).unsqueeze(0)
    packed = model(torch.cat([one, two], 1), documents=torch.tensor([[0] * 5 + [1] * 7]), positions=at)
    close(packed, torch.cat([model(one), model(two)], 1))


def test_a_prefix_reads_itself_whole():
    model = tiny(mask="prefix")
    tokens = some_tokens(2, 8)
    logits = model(tokens, prefix=torch.tensor([3, 0]))
    other = tokens.clone()
    other[:, 2] = (other[:, 2] + 1) % VOCAB
    changed = model(other, prefix=torch.tensor([3, 0]))
    assert not torch.isclose(changed[0, 0], logits[0, 0]).any()
    assert torch.equal(changed[1, :2], logits[1, :2])
    close(logits[1], tiny(mask="causal")(tokens)[1])
    other = tokens.clone()
    other[:, 5] = (other[:, 5] + 1) % VOCAB
    assert torch.equal(model(other, prefix=torch.tensor([3, 0]))[:, :5], logits[:, :5])


# The network and the last step ------------------------------------------------------------------------------


def test_a_head_and_a_softmax_make_a_distribution():
    probabilities = tiny()(some_tokens()).softmax(-1)
    assert probabilities.shape == (2, 9, VOCAB)  # as many vectors of M numbers as went in, each summing to 1
    close(probabilities.sum(-1), torch.ones(2, 9))


def test_an_embedding_is_a_one_hot_vector_times_a_matrix():
    model = tiny(position="none")
    tokens = some_tokens()
    one_hot = torch.nn.functional.one_hot(tokens, VOCAB).double()
    close(model.embedding(tokens, torch.arange(9)[None]), one_hot @ model.embedding.weight)


def test_the_network_works_vector_by_vector():
    network = scatter(part("feed_forward", {"name": "mlp", "activation": "relu"}, shape()))
    x = normal(1, 6, 16)
    close(network(x[:, [3, 1, 5]]), network(x)[:, [3, 1, 5]])
    weights = reference.weights_of(network)
    hidden = np.maximum(x.numpy() @ weights("up.weight").T + weights("up.bias"), 0)
    close(network(x), hidden @ weights("down.weight").T + weights("down.bias"))
