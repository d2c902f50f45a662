"""The plot of the polling benchmark, and how all plots are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.sides import TITLES, VENDORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axis import Axis

_LINES = {
    "ours": ("-", "#0073ff"),
    "peer": ("--", "#ff694b"),
    "floor": (":", "#666666"),
}
_NAMES = {"floor": "floor", "ours": "ours", "peer": "official"}
_PANELS = (
    ("requests", "requests\na minute", 60.0),
    ("tcp_connections", "TCP connections\na minute", 60.0),
    ("cpu_net_s", "CPU,\nseconds a minute", 60.0),
    ("rss_growth_mb", "memory growth,\nMB", 1.0),
    ("lag_p99_s", "loop lag p99,\nms", 1000.0),
    ("detect_p99_s", "end of the job\nto event p99, s", 1.0),
)
_RATES = frozenset({"requests", "tcp_connections", "cpu_net_s"})
"""What grows with the time for which it is measured."""
CPU_ERROR = 0.005
"""CPU seconds a second that cannot be told from doing nothing but measure."""
UNWATCHED_CPU_ERROR = 0.0005
"""The same where the event loop is not watched meanwhile."""
_LEAST = 0.01
"""What a logarithmic axis shows in place of nothing."""


def comparable(numbers: Mapping[str, float | None], name: str) -> float | None:
    """Return a number of a run, by the second where it grows with the run's length.

    None where there is none, and for CPU that cannot be told from nothing.
    """
    value = numbers[name]
    if value is None or name not in _RATES:
        return value

    seconds = numbers["cpu_wall_s" if name == "cpu_net_s" else "wall_s"]
    if not seconds:
        return None

    rate = value / seconds
    error = numbers["cpu_error"]
    is_noise = name == "cpu_net_s" and error is not None and rate < error
    return None if is_noise else rate


def draw(
    rows: Sequence[tuple[str, str, int, Mapping[str, float | None]]], path: Path
) -> None:
    """Draw each measure over the number of triggers, from (vendor, side, N, numbers).

    A measure is a row and a vendor a column, so that no panel has more than three lines.
    """
    style()
    figure = Figure(figsize=(10, 2.1 * len(_PANELS)), layout="constrained")
    panels = figure.subplots(len(_PANELS), len(VENDORS), sharex=True, sharey="row")
    for (name, title, factor), row in zip(_PANELS, panels, strict=True):
        for vendor, axes in zip(VENDORS, row, strict=True):
            for side, (line, colour) in _LINES.items():
                points = sorted(
                    (n, max(_LEAST, value * factor))
                    for its_vendor, its_side, n, numbers in rows
                    if (its_vendor, its_side) == (vendor, side)
                    and (value := comparable(numbers, name)) is not None
                )
                axes.plot(
                    [n for n, _ in points],
                    [value for _, value in points],
                    linestyle=line,
                    marker="o",
                    markersize=3,
                    color=colour,
                    label=_NAMES[side],
                )
                if points:
                    axes.set_xscale("log")
                    axes.set_yscale("log")
                    in_full(axes.xaxis, axes.yaxis)

            axes.grid(visible=True, alpha=0.3)

        row[0].set_ylabel(title)

    for vendor, top, bottom in zip(VENDORS, panels[0], panels[-1], strict=True):
        top.set_title(TITLES[vendor])
        bottom.set_xlabel("waiting triggers")

    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(_LINES))
    figure.savefig(path, metadata={"Date": None})


def in_full(*axes: Axis) -> None:
    """Write the numbers of logarithmic axes in full: exponents are too small to read."""
    for axis in axes:
        axis.set_major_formatter("{x:,g}")


def style() -> None:
    """Draw the same picture for the same numbers, with text that can be searched."""
    mpl.rcParams.update(
        {
            "svg.hashsalt": "async-triggers",
            "svg.fonttype": "none",
            "font.size": 9,
            "axes.titlesize": 11,
            "legend.fontsize": 9,
        }
    )
