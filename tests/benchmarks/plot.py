"""Draws the rows: a chart for each group and unit, a bar for each row, and its quartiles."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .measure import Row, figure

_OURS, _OTHERS = "#1b7f5c", "#b4b9c0"
_BAR = 0.28  # inches


def plot(rows: Sequence[Row], path: str) -> None:
    """Write the picture there, in the format of the name's ending."""
    keys = dict.fromkeys((row.group, row.unit) for row in rows)
    groups = [[row for row in rows if (row.group, row.unit) == key] for key in keys]
    heights = [len(group) + 2.5 for group in groups]
    picture = Figure(figsize=(9, _BAR * sum(heights)), layout="constrained")
    every = picture.subplots(len(groups), squeeze=False, height_ratios=heights)[:, 0]
    for axes, group in zip(every, groups, strict=True):
        _draw(axes, group)
    picture.savefig(path)


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    names = [row.name for row in rows]
    medians = [row.median for row in rows]
    spread = [[row.median - row.low for row in rows], [row.high - row.median for row in rows]]
    ours = ["ours" in name for name in names]
    # Where nobody is named, all are ours.
    colours = [_OURS if mine or not any(ours) else _OTHERS for mine in ours]
    bars = axes.barh(names, medians, xerr=spread, color=colours, ecolor="#444444")
    labels = [f"  {figure(row.median)} {row.unit}{_ratio(row)}" for row in rows]
    axes.bar_label(bars, labels, fontsize="small")
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_title(rows[0].group, loc="left", fontsize="medium", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else f" (×{row.ratio:.2f})"
