"""`gptkit show`: the composed model, before anything is trained."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptkit.cli.arguments import split_flags, take_key

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT

SUMMARY = "draw the composed model: parts, sizes, cost, mask and positions"
USAGE = """\
gptkit show [key=value ...] [out=FILE.svg] [--json]

  gptkit show                                   the default model
  gptkit show model=gpt2 position=sinusoidal
  gptkit show mask=[causal,sliding_window] model.mask.sliding_window.window=8 out=model.svg

Nothing is trained, and no weight is made: gpt2_xl is drawn as quickly as nano.
"""
_SEEN = 48  # positions in the pictures


def run(args: list[str]) -> int:
    """Draw a model.

    Raises:
        UserError: the words do not make a config, or the picture cannot be written.
    """
    flags, words = split_flags(args, ["--json"], ["--config-dir"])
    out, words = take_key(words, "out")
    from gptkit.compose import compose

    config = compose(words, config_dir=flags.get("--config-dir"))
    model = bare_model(config)
    if "--json" in flags:
        print(json.dumps(facts(model, config), indent=2))
        return 0
    lines = [*tree(model, config), "", *parts(model), "", *cost_lines(model, config)]
    if out:
        write(Path(out), model, config, lines)
        return 0
    print("\n".join(lines))
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print("\n" + "\n".join(pictures_in_terminal(model, config, colours=colours)))
    return 0


def bare_model(config: dict[str, Any]) -> GPT:
    """The model without its numbers, on the meta device."""
    from gptkit import registry
    from gptkit.model.assemble import build
    from gptkit.text.tokenizers import build_tokenizer

    size = config["model"].get("vocab_size")
    if size is None:
        node = config["tokenizer"]
        if registry.load("tokenizer", node["name"]).needs_corpus:
            from gptkit.text.shards import prepare

            size = prepare(config).tokenizer.vocab_size
        else:
            size = build_tokenizer(node, None).vocab_size
    return build(config, vocab_size=size, device="meta")


def _named(node: dict[str, Any] | None) -> str:
    """A part with its options, as one would write it."""
    node = node or {}
    options = ", ".join(f"{key}={json.dumps(value)}" for key, value in node.items() if key != "name")
    return f"{node.get('name', '')}({options})" if options else str(node.get("name", ""))


def tree(model: GPT, config: dict[str, Any]) -> list[str]:
    """The model from top to bottom, layers that are alike folded."""
    section, shape = config["model"], model.shape
    name = section.get("preset") or "GPT"
    lines = [
        f"{name}: {model.n_parameters():,} parameters, {shape.n_layers} layers, d_model={shape.d_model}, "
        f"{shape.n_heads} heads of {shape.d_head}, context {shape.context_length}, vocabulary {shape.vocab_size:,}",
        "",
        "tokens [B, T]",
        f"├─ embedding   {_named(section['embedding'])} → [B, T, {shape.d_model}]",
        f"├─ position    {_named(section['position'])}",
    ]
    for first, last, layer in folded(section, shape.n_layers):
        times = f"blocks {first}–{last} × {last - first + 1}" if last > first else f"block {first}"
        lines.append(f"├─ {times}: {_named(layer['block'])}")
        lines.append(f"│    ├─ norm          {_named(layer['norm'])}")
        lines.append(f"│    ├─ attention     {_named(layer['attention'])}")
        masks = " & ".join(_named({"name": mask, **options}) for mask, options in layer["mask"].items())
        lines.append(f"│    │    mask        {masks or 'none'}")
        if layer["position"] != section["position"]:
            lines.append(f"│    │    position    {_named(layer['position'])}")
        lines.append(f"│    └─ feed_forward  {_named(layer['feed_forward'])}, hidden {shape.d_ff}")
    if sum(1 for _ in model.norm.parameters()):
        lines.append(f"├─ norm        {_named(section['norm'])}")
    return [*lines, f"└─ head        {_named(section['head'])} → [B, T, {shape.vocab_size}]"]


def folded(section: dict[str, Any], n_layers: int) -> list[tuple[int, int, dict[str, Any]]]:
    """Runs of layers with the same parts: (first, last, parts)."""
    from gptkit.model.assemble import PER_LAYER, layers_in

    runs: list[tuple[int, int, dict[str, Any]]] = []
    for index in range(n_layers):
        layer = {name: section[name] for name in PER_LAYER}
        for where, changes in (section.get("layers") or {}).items():
            if index in layers_in(where, n_layers):
                layer.update(changes)
        if runs and runs[-1][2] == layer:
            runs[-1] = (runs[-1][0], index, layer)
        else:
            runs.append((index, index, layer))
    return runs


def parts(model: GPT) -> list[str]:
    """Parameters by part, with their shares as bars."""
    from gptkit.model.cost import parameters_by_part

    counts = parameters_by_part(model)
    total = sum(counts.values()) or 1
    widest = max([len(name) for name in counts], default=0)
    lines = ["parameters by part"]
    for name, count in sorted(counts.items(), key=lambda entry: -entry[1]):
        bar = "█" * round(28 * count / total)
        lines.append(f"  {name:<{widest}} {count:>13,} {100 * count / total:5.1f} % {bar}")
    return lines


def facts(model: GPT, config: dict[str, Any]) -> dict[str, Any]:
    """What `show` tells, as plain data."""
    from dataclasses import asdict

    from gptkit.model import cost

    batch = config["data"]["batch_size"]
    memory = cost.memory(model, batch)
    return {
        "shape": asdict(model.shape),
        "parameters": model.n_parameters(),
        "parameters_by_part": cost.parameters_by_part(model),
        "forward_flops_per_token": cost.flops_per_token(model, backward=False),
        "training_flops_per_token": cost.flops_per_token(model),
        "memory": {**asdict(memory), "training": memory.training, "batch": batch},
        "cache_bytes_at_context": memory.cache_per_token * model.shape.context_length,
        "model": config["model"],
    }


def _amount(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} "


def cost_lines(model: GPT, config: dict[str, Any]) -> list[str]:
    """Operations and memory, in words."""
    told = facts(model, config)
    memory = told["memory"]
    return [
        "cost",
        f"  each token, forward    {_amount(told['forward_flops_per_token'])}FLOP   "
        f"training {_amount(told['training_flops_per_token'])}FLOP (matrix products, all keys of the context)",
        f"  training memory        {_amount(memory['training'])}B: weights {_amount(memory['weights'])}B, gradients "
        f"{_amount(memory['gradients'])}B, AdamW {_amount(memory['moments'])}B,",
        f"                         activations about {_amount(memory['activations'])}B at batch {memory['batch']} "
        "(an estimate)",
        f"  decoding cache         {_amount(memory['cache_per_token'])}B a token, "
        f"{_amount(told['cache_bytes_at_context'])}B at the full context (float32)",
    ]


def mask_matrix(model: GPT, seen: int) -> list[list[float]]:
    """Who may read whom among the first positions."""
    import torch

    from gptkit.model.interfaces import MaskContext
    from gptkit.model.masks import dense

    at = torch.arange(seen).unsqueeze(0)
    return dense(model.mask, at, at, MaskContext())[0].expand(seen, seen).double().tolist()


def position_matrix(
    model: GPT, config: dict[str, Any], seen: int
) -> tuple[list[list[float]], str, str, str] | None:
    """The position encoding as a matrix with its title and axes; None where there is nothing to see.

    What is added to tokens is shown by position and dimension, a bias by head and distance, and a
    rotation by how alike a vector stays to itself at a distance.
    """
    import torch

    from gptkit.model.assemble import part
    from gptkit.model.init import initialise
    from gptkit.model.interfaces import DistanceBias

    shape = model.shape
    with torch.no_grad():
        position = part("position", config["model"]["position"], shape)
        initialise(position, part("init", config["model"]["init"], shape), int(config["seed"]))
        at = torch.arange(seen).unsqueeze(0)
        added = position.embed(torch.zeros(1, seen, shape.d_model), at)[0]
        if added.any():
            return (
                added.tolist(),
                f"position encoding: {_named(config['model']['position'])}",
                "dimension",
                "position",
            )
        if isinstance(position, DistanceBias):
            return (
                position.bias_of(torch.arange(seen)).tolist(),
                "bias of each head by distance",
                "distance",
                "head",
            )
        unit = torch.ones(1, 1, seen, shape.d_head)
        turned, _ = position.rotate(unit, unit, at, at)
        if torch.equal(turned, unit):
            return None
        alike = (turned[0, 0, :1] * turned[0, 0]).view(seen, -1)
        return (
            alike.T.tolist(),
            "rotation: each number against itself, by distance",
            "distance",
            "dimension of a head",
        )


def _reach(model: GPT, config: dict[str, Any]) -> int:
    """How many positions the pictures show: what the model, its positions and masks all know."""
    ends = [_SEEN, model.shape.context_length, model.max_positions or _SEEN]
    ends += [len(options["matrix"]) for options in config["model"]["mask"].values() if "matrix" in options]
    return min(ends)


def pictures_in_terminal(model: GPT, config: dict[str, Any], *, colours: bool) -> list[str]:
    """The mask and the position encoding, in signs."""
    from gptkit.pictures import heat_lines, mask_lines

    seen = _reach(model, config)
    lines = [
        f"mask: query down, key across, the first {seen} positions (some left out)"
        if seen > 24
        else "mask: query down, key across"
    ]
    lines += [f"  {line}" for line in mask_lines(mask_matrix(model, seen))]
    found = position_matrix(model, config, seen)
    if found is None:
        return [*lines, "", "position: none is told"]
    matrix, title, across, down = found
    return [
        *lines,
        "",
        f"{title} ({down} down, {across} across)",
        *(f"  {line}" for line in heat_lines(matrix, colours=colours)),
    ]


def write(path: Path, model: GPT, config: dict[str, Any], lines: list[str]) -> None:
    """Write one SVG page with all of it.

    Raises:
        UserError: the file cannot be written.
    """
    from gptkit.errors import UserError
    from gptkit.pictures import heat_svg, page_svg

    seen = _reach(model, config)
    pictures = [heat_svg(mask_matrix(model, seen), "mask: red may be read", "key", "query")]
    found = position_matrix(model, config, seen)
    if found:
        matrix, title, across, down = found
        pictures.append(heat_svg(matrix, title.split("(")[0], across, down))
    wrapped = [piece for line in lines for piece in _wrap(line)]
    try:
        path.write_text(
            page_svg(f"gptkit show: {config['model'].get('preset') or 'model'}", wrapped, pictures), "utf-8"
        )
    except OSError as error:
        raise UserError(f"out={path} cannot be written: {error.strerror}.") from None
    print(f"{path}: the model, its cost, mask and positions.")


def _wrap(line: str, width: int = 84) -> list[str]:
    import textwrap

    return textwrap.wrap(line, width, subsequent_indent="      ", drop_whitespace=False) or [""]
