"""The plots of the polling benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.sides import TITLES, VENDORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_COLOURS = {"airbyte": "#615eff", "fivetran": "#0073ff", "dbt_cloud": "#ff694b"}
_LINES = {"floor": ":", "ours": "-", "peer": "--"}
_NAMES = {"floor": "floor", "ours": "ours", "peer": "official"}
_PANELS = (
    ("requests", "requests a minute", 60.0),
    ("tcp_connections", "TCP connections a minute", 60.0),
    ("cpu_net_s", "CPU, seconds a minute", 60.0),
    ("rss_growth_mb", "memory growth, MB", 1.0),
    ("lag_p99_s", "loop lag p99, ms", 1000.0),
    ("detect_p99_s", "end of the job to event p99, s", 1.0),
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
    """Draw each measure over the number of triggers, from (vendor, side, N, numbers)."""
    # The same picture for the same numbers, and text that can be searched.
    mpl.rcParams.update({"svg.hashsalt": "async-triggers", "svg.fonttype": "none"})
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    for place, (name, title, factor) in enumerate(_PANELS, start=1):
        axes = figure.add_subplot(2, 3, place)
        scale = "linear"
        for vendor in VENDORS:
            for side, line in _LINES.items():
                points = sorted(
                    (n, max(_LEAST, value * factor))
                    for its_vendor, its_side, n, numbers in rows
                    if (its_vendor, its_side) == (vendor, side)
                    and (value := comparable(numbers, name)) is not None
                )
                if points:
                    scale = "log"

                axes.plot(
                    [n for n, _ in points],
                    [value for _, value in points],
                    linestyle=line,
                    marker="o",
                    markersize=3,
                    color=_COLOURS[vendor],
                    label=f"{TITLES[vendor]}, {_NAMES[side]}",
                )

        axes.set_xscale(scale)
        axes.set_yscale(scale)
        axes.set_xlabel("waiting triggers")
        axes.set_title(title, fontsize=10)
        axes.grid(visible=True, alpha=0.3)

    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
