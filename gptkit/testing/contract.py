"""What every part promises before anything is computed: its signature, its YAML, how it is built."""

from __future__ import annotations

import torch

from gptkit.registry import SLOTS, components
from gptkit.testing.afresh import changed, changes, state_around
from gptkit.testing.checks import law
from gptkit.testing.subject import Refused, Subject, shape, tokens


@law(once=True)
def documented(subject: Subject) -> None:
    """The docstring says what a part is, and every option stands under Args with a meaning."""
    declared = subject.component.declaration
    assert declared.doc.strip(), "It has no docstring."
    bare = [option.name for option in declared.options if not option.help.strip()]
    assert not bare, f"Not under Args: {', '.join(bare)}."


@law(once=True)
def yaml_equals_signature(subject: Subject) -> None:
    """Its YAML names the part and gives each of its options the default of the signature."""
    from gptkit import schema
    from gptkit.composing.tree import Tree

    slot, name = SLOTS[subject.slot], subject.component.name
    file = Tree().find(slot.group, name)
    assert file is not None, f"There is no {slot.group}/{name}.yaml, and none was made from the signature."
    content = dict(file.content)
    node = dict(content.get(name) or {}) if slot.many else content
    named = list(content) == [name] if slot.many else node.pop("name", None) == name
    assert named, f"The file says {content!r}; it must name {name!r}."
    shared = schema.options_of(schema.SECTIONS[slot.name]) if slot.name in schema.SECTIONS else {}
    options = {option.name: option for option in subject.component.declaration.options}
    assert set(node) - set(shared) == set(options), (
        f"It holds {sorted(node)}; the signature {sorted(options)}."
    )
    for key, value in node.items():
        if key in options and not (isinstance(value, str) and value.startswith("${")):
            expected = "???" if options[key].required else options[key].default
            same = value == expected and (options[key].required or type(value) is type(expected))
            assert same, f"{key} is {value!r} in the YAML and {expected!r} in the signature."


@law("model")
def rebuilds_alike(subject: Subject) -> None:
    """Built twice from one config that went through JSON, its weights are bitwise the same; by another seed, others."""
    import json

    from gptkit.model import assemble

    first = subject.build()
    with torch.random.fork_rng([]):
        torch.manual_seed(99)  # as in another process
        again = assemble.build(json.loads(json.dumps(subject.config())))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), f"{name} differs."
    other = assemble.build({**subject.config(), "seed": 2}).state_dict()
    drawn = [
        name for name, tensor in first.state_dict().items() if tensor.ndim > 1 and len(tensor.unique()) > 2
    ]
    same = [name for name in drawn if torch.equal(first.state_dict()[name], other[name])]
    assert not same, f"{', '.join(same)} do not follow the seed."


@law("model")
def leaves_no_trace(subject: Subject) -> None:
    """Building it and computing with it change no state around it: random generators, dtype, threads, environment."""
    subject.build()  # what is imported on first use may warm up
    before = state_around()
    model = subject.build()
    model(tokens())
    found = changed(before, state_around())
    assert not found, f"It changed {found}."


@law(once=True)
def imports_without_a_trace(subject: Subject) -> None:
    """In a new process, importing its module and building its first parts change no state and write no file."""
    own = subject.component
    if own.live is not None:
        raise Refused("It was made in this process, so no other can import it.")
    parts = tuple(c for c in components() if (c.module, c.origin) == (own.module, own.origin))
    found = changes(parts)
    assert not found, found


@law("model")
def needs_no_memory_to_plan(subject: Subject) -> None:
    """On the meta device the same parameters are made, and none of them holds memory."""
    from gptkit.model import assemble

    real = subject.build()
    planned = assemble.build(subject.config(), device="meta")
    assert all(p.is_meta for p in planned.parameters()), (
        "A parameter is not on the device that was asked for."
    )
    shapes = [{n: tuple(p.shape) for n, p in model.named_parameters()} for model in (real, planned)]
    assert shapes[0] == shapes[1], "Its parameters differ there."


@law("model")
def saves_and_loads(subject: Subject) -> None:
    """Saved and loaded it computes bitwise the same: its state is in its state_dict and its config."""
    import tempfile
    from pathlib import Path

    import gptkit
    from gptkit.load import save
    from gptkit.testing.subject import stir

    model = stir(subject.build())
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model")
        with torch.random.fork_rng([]):
            torch.manual_seed(99)  # as in another process
            loaded = gptkit.load(Path(folder) / "model")
    assert torch.equal(model(tokens()), loaded(tokens())), "The loaded model computes something else."


@law("model")
def copies_whole(subject: Subject) -> None:
    """A deep copy computes the same and shares nothing that training changes."""
    import copy

    model = subject.model()
    twin = copy.deepcopy(model)
    before = model(tokens())
    assert torch.equal(before, twin(tokens())), "The copy computes something else."
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    assert torch.equal(before, model(tokens())), "Changing the copy changed the model."


@law("model.init")
def draws_from_its_generator(subject: Subject) -> None:
    """A tensor's first values follow from the generator it is given; norms' gains start at one, biases at zero."""
    init = subject.part(shape())
    drawn = []
    for _ in range(2):
        tensor = torch.full((16, 24), float("nan"))
        init.fill("blocks.0.feed_forward.up.weight", tensor, "weight", torch.Generator().manual_seed(5))
        drawn.append(tensor)
    assert torch.isfinite(drawn[0]).all(), "It left numbers unset."
    assert torch.equal(*drawn), "The same generator gave other values."
    assert drawn[0].std() > 0, "Every weight starts alike, so no two units could learn different things."
    for name, role, value in (
        ("norm.weight", "norm", 1.0),
        ("norm.bias", "norm", 0.0),
        ("up.bias", "bias", 0.0),
    ):
        tensor = torch.full((16,), float("nan"))
        init.fill(name, tensor, role, torch.Generator().manual_seed(5))  # type: ignore[arg-type]
        assert torch.equal(tensor, torch.full((16,), value)), f"{name} starts at {tensor[0]:.3g}."
