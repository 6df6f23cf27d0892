"""What a model costs, in lines: parameters and operations by part, memory."""

from __future__ import annotations

from gptkit.generate.bars import bar, percent
from gptkit.numbers import quantity
from gptkit.pictures import Line
from gptkit.view.sheet import Sheet


def rows(seen: Sheet) -> list[tuple[str, int, float]]:
    """(part, parameters, forward operations for each token), in the order in which a token meets them."""
    operations = seen.operations.by_part()
    parts = dict.fromkeys([*seen.parameters, *operations])
    if "head" in parts:  # it stands last, tied or not
        parts["head"] = parts.pop("head")
    return [(part, seen.parameters.get(part, 0), operations.get(part, 0.0)) for part in parts]


def part_lines(seen: Sheet, width: int = 80, eighths: bool = True) -> list[Line]:
    """Parameters and operations of each part, with their shares as bars."""
    told = rows(seen)
    parameters = sum(count for _, count, _ in told)
    forward = seen.operations.forward
    wide = max([4, *(len(part) for part, _, _ in told)])
    cells = max(4, min(28, (width - wide - 51) // 2))
    most = max([count for _, count, _ in told], default=0) or 1, max([n for _, _, n in told], default=0) or 1
    head = (
        f"  {'part':<{wide}}  {'parameters':>14} {'share':>7}  {'':<{cells}} {'FLOP/token':>11} {'share':>7}"
    )
    lines: list[Line] = [[(head, "dim")]]
    for part, count, operations in told:
        share, part_of = count / (parameters or 1), operations / (forward or 1)
        line: Line = [(f"  {part:<{wide}}  ", ""), (f"{count:>14,} {percent(share):>7}  ", "")]
        line.append((f"{bar(count / most[0], cells, eighths):<{cells}} ", "blue"))
        if operations:
            line.append((f"{quantity(operations, ''):>11} {percent(part_of):>7}  ", ""))
            line.append((bar(operations / most[1], cells, eighths), "blue"))
        lines.append(line)
    total = f"  {'all':<{wide}}  {parameters:>14,} {'':>7}  {'':<{cells}} {quantity(forward, ''):>11}"
    return [*lines, [(total, "strong")]]


def operation_lines(seen: Sheet) -> list[Line]:
    """Operations for each token: what is counted, and what the masks leave of it."""
    found = seen.operations
    reading = sum(found.reading.values())
    lines: list[Line] = [
        _line("forward", quantity(found.forward, "FLOP"), "matrix products: 2 for each weight a token meets"),
        _line("  of which", quantity(reading, "FLOP"), f"reads other tokens, at all {found.keys:,} keys;"),
        _line(
            "",
            "",
            f"the masks leave {quantity(found.visible, 'FLOP')} ({percent(found.visible / (reading or 1))})",
        ),
        _line(
            "training",
            quantity(found.training, "FLOP"),
            "3 × forward, as PaLM has it (Chowdhery et al. 2022)",
        ),
    ]
    if not reading:
        del lines[1:3]
    if found.guessed:
        lines.append(_line("", "", f"an estimate: {', '.join(found.guessed)} cannot run without numbers"))
    return lines


def memory_lines(seen: Sheet) -> list[Line]:
    """Memory of training and of decoding, in float32."""
    found, shape = seen.memory, seen.model.shape
    heads = f"{shape.n_layers} layers, {shape.n_kv_heads} kv heads"
    return [
        _line(
            "training",
            quantity(found.training, "B"),
            f"batch of {found.rows} × {found.length:,} on one device, float32",
        ),
        _line("  weights", quantity(found.weights, "B"), ""),
        _line("  gradients", quantity(found.gradients, "B"), ""),
        _line("  AdamW", quantity(found.moments, "B"), "two averages of each gradient"),
        _line(
            "  activations",
            "≈ " + quantity(found.activations, "B"),
            "an estimate: kept for the backward pass",
        ),
        _line("decoding", quantity(found.decoding, "B"), "the weights, and the cache of one text"),
        _line("  cache", quantity(found.cache, "B"), f"at {found.length:,} tokens: {heads}"),
        _line("  a token", quantity(found.cache_per_token, "B"), "added to the cache by each token"),
    ]


def _line(label: str, value: str, note: str) -> Line:
    return [
        (f"  {label:<13}", ""),
        (f"{value:>12}", "strong" if not label.startswith(" ") else ""),
        (f"  {note}", "dim"),
    ]
