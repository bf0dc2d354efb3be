"""What a mask freezes, by block and by type of layer: plain data, and a picture of where."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.numbers import number, percent
from oubliette.core.writing import parents, write_bytes
from oubliette.data.picture_sheet import check_target
from oubliette.guard.layers import LAYER_TYPES, block_of, layer_type

if TYPE_CHECKING:
    from oubliette.guard.mask import Mask, MaskBudget

__all__ = ["Part", "Summary", "picture", "share_text", "summary"]

# A UNet's blocks in the order in which a picture passes them; the model lists the middle last.
_ORDER = {"down_blocks": 1, "mid_block": 2, "up_blocks": 3, "conv_norm_out": 4, "conv_out": 4}
_TITLES = {"time": "time embedding", "other": "norms, biases"}


@dataclass(frozen=True)
class Part:
    """Some of the candidates and how much of them is frozen, in tensors and in parameters."""

    name: str
    tensors: int
    frozen_tensors: int
    parameters: int
    frozen_parameters: int

    @property
    def parameter_share(self) -> float:
        """The frozen share of its parameters, 0 where there are none."""
        return self.frozen_parameters / self.parameters if self.parameters else 0.0

    @property
    def tensor_share(self) -> float:
        """The frozen share of its tensors."""
        return self.frozen_tensors / self.tensors if self.tensors else 0.0


@dataclass(frozen=True)
class Summary:
    """A mask in figures: the whole, then components, blocks and types of layer in the model's order.

    `cells` are the blocks by type of layer: {"unet.mid_block": {"attention": Part, ...}, ...}.
    """

    base: str
    revision: str | None
    whole: Part
    components: tuple[Part, ...]
    blocks: tuple[Part, ...]
    types: tuple[Part, ...]
    cells: dict[str, dict[str, Part]]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def summary(mask: Mask) -> Summary:
    """What is frozen by component, by block (`oubliette.guard.layers.block_of`) and by type of layer."""
    names = sorted(mask.candidates, key=_rank)
    frozen = set(mask.names)
    kind = {name: layer_type(name, len(mask.candidates[name])) for name in names}

    def part(title: str, members: Iterable[str]) -> Part:
        own = list(members)
        stay = [name for name in own if name in frozen]
        sizes = [sum(math.prod(mask.candidates[name]) for name in some) for some in (own, stay)]
        return Part(title, len(own), len(stay), sizes[0], sizes[1])

    def parts(key: Callable[[str], str]) -> tuple[Part, ...]:
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(key(name), []).append(name)
        return tuple(part(title, own) for title, own in groups.items())

    cells: dict[str, dict[str, list[str]]] = {}
    for name in names:
        cells.setdefault(block_of(name), {}).setdefault(kind[name], []).append(name)
    found = {each.name: each for each in parts(lambda name: kind[name])}
    return Summary(
        base=mask.base.source,
        revision=mask.base.revision,
        whole=part("all", names),
        components=parts(lambda name: name.partition(".")[0]),
        blocks=parts(block_of),
        types=tuple(found[each] for each in LAYER_TYPES if each in found),
        cells={block: {each: part(each, own) for each, own in row.items()} for block, row in cells.items()},
    )


def share_text(budget: MaskBudget) -> str:
    """Both shares in words, the tensors' last: "30 % of the parameters and 12.4 %"."""
    parameters, tensors = (percent(share, ".3g") for share in (budget.parameter_share, budget.tensor_share))
    return f"{parameters} of the parameters and {tensors}"


def picture(mask: Mask, path: Path | str) -> Path:
    """Draw where a mask lies as a PNG: blocks in order by types of layer, darker the more is frozen.

    A cell says the frozen share of its parameters in per cent; the bar in it is as long as the square root of
    its part of all parameters. UserError where the file is there or cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = check_target(path)
    found = summary(mask)
    rows = [each.name for each in found.types]
    columns = [each.name for each in found.blocks]
    figure = Figure(
        figsize=(max(5.0, 2.4 + 0.62 * len(columns)), 2.1 + 0.5 * len(rows)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw(axes, found, rows, columns)
    whole = found.whole
    axes.set_title(f"What the mask freezes in {found.base}", fontsize=11, loc="left", weight="bold", pad=22)
    axes.annotate(
        f"{percent(whole.parameter_share, '.3g')} of {whole.parameters:,} parameters, "
        f"{whole.frozen_tensors} of {whole.tensors} tensors",
        (0, 1),
        xytext=(0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color="#555555",
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    with parents(path):
        write_bytes(path, buffer.getvalue())
    return path


def _draw(axes: Any, found: Summary, rows: list[str], columns: list[str]) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    shades = colormaps["Blues"]
    for x, block in enumerate(columns):
        for y, kind in enumerate(rows):
            cell = found.cells[block].get(kind)
            if cell is None:
                continue
            share = cell.parameter_share
            box = Rectangle(
                (x - 0.46, y - 0.46), 0.92, 0.92, facecolor=shades(0.06 + 0.8 * share), edgecolor="#c8d0d8"
            )
            axes.add_patch(box)
            ink = "white" if share > 0.55 else "#222222"
            axes.text(x, y - 0.08, number(share), ha="center", va="center", fontsize=8.5, color=ink)
            # A bar as long as the cell's part of all parameters: 100 % of next to nothing is next to nothing.
            length = 0.8 * math.sqrt(cell.parameters / max(found.whole.parameters, 1))
            axes.plot(
                [x - 0.4, x - 0.4 + length], [y + 0.31, y + 0.31], lw=2, color=ink, solid_capstyle="butt"
            )
    several = len(found.components) > 1
    names = columns if several else [name.partition(".")[2] or name for name in columns]
    axes.set_xticks(range(len(columns)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(rows)), [_TITLES.get(kind, kind) for kind in rows], fontsize=9)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel(
        "Numbers: frozen share of the cell's parameters in %. "
        "Bars: the cell's part of all parameters (square root).",
        fontsize=7.5,
        color="#555555",
        loc="left",
    )


def _rank(name: str) -> int:
    """Sorts a UNet's middle block between its way down and its way up; all else stays where it is."""
    part = name.split(".")[1] if "." in name else ""
    return _ORDER.get(part, 0) if name.startswith("unet.") else 0
