"""Plots as inline SVG. They have classes only, since the page allows no inline style. Labels stand beside the picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from .wording import number

WIDTH, HEIGHT = 600, 100
"""The picture's own units. It is stretched to its place."""

_EMPTY = 1.0
NOTHING = "-"
"""Shown in the place of a number that is not known."""


class PlotLine(NamedTuple):
    """One line of a plot.

    Attributes:
        name: Its name in the legend.
        kind: The class that gives it a colour, such as ``one``.
        values: A value for each moment, oldest first (None: nothing is known of that moment).
    """

    name: str
    kind: str
    values: Sequence[float | None]


class Plot(NamedTuple):
    """A plot, ready for a page.

    Attributes:
        title: Its heading.
        text: All that it says, for who does not see it.
        top: The largest value, as its label.
        svg: The picture.
        names: The kind and the name of each line, with its last value.
    """

    title: str
    text: str
    top: str
    svg: Markup
    names: list[tuple[str, str, str]]


def plot(title: str, lines: Sequence[PlotLine], *, unit: str = "", bands: Sequence[bool] = ()) -> Plot:
    """Draw lines over the same moments. *bands* mark moments at which something was wrong."""
    most = max((value for line in lines for value in line.values if value is not None), default=0)
    top = _round_up(most)
    parts = [*_bands(bands), *(part for line in reversed(lines) for part in _drawn(line, top))]
    inside = Markup("").join(parts)
    svg = Markup('<svg viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true" focusable="false">{}</svg>')
    names = [(line.kind, line.name, _shown(_last(line.values), unit)) for line in lines]
    return Plot(title, _told(lines, unit, bands), _shown(top, unit), svg.format(WIDTH, HEIGHT, inside), names)


def _round_up(value: float) -> float:
    """Find the round number at or above a value, for the top of a plot."""
    if value <= 0:
        return _EMPTY
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next((step * power for step in (1, 2, 3, 4, 5, 6, 8) if step * power >= value), 10 * power)


def _drawn(line: PlotLine, top: float) -> Iterable[Markup]:
    """Draw a line. It has a gap where nothing is known."""
    step = WIDTH / max(1, len(line.values) - 1)
    run: list[str] = []
    for place, value in enumerate([*line.values, None]):
        if value is not None:
            run.append(f"{place * step:.1f},{HEIGHT - value / top * HEIGHT:.1f}")
        elif run:
            if len(run) == 1:  # a single point would not be seen, and behind the last one there is no place
                middle, height = (place - 1) * step, run[0].partition(",")[2]
                run = [f"{max(0, middle - step / 2):.1f},{height}", f"{min(WIDTH, middle + step / 2):.1f},{height}"]
            yield Markup('<polyline class="line {}" points="{}"/>').format(line.kind, " ".join(run))
            run = []


def _bands(bands: Sequence[bool]) -> Iterable[Markup]:
    width = WIDTH / max(1, len(bands))
    for place, is_marked in enumerate(bands):
        if is_marked:
            rectangle = Markup('<rect class="band" x="{:.1f}" y="0" width="{:.1f}" height="{}"/>')
            yield rectangle.format(place * width, width, HEIGHT)


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _shown(value: float | None, unit: str) -> str:
    return NOTHING if value is None else f"{number(value)} {unit}".strip()


def _told(lines: Sequence[PlotLine], unit: str, bands: Sequence[bool]) -> str:
    """Say in words what a plot shows."""
    said = []
    for line in lines:
        known = [value for value in line.values if value is not None]
        if not known:
            said.append(f"{line.name}: nothing is known.")
            continue
        least, most = _shown(min(known), unit), _shown(max(known), unit)
        said.append(f"{line.name}: now {_shown(known[-1], unit)}, between {least} and {most}.")
    if any(bands):
        said.append(f"Degraded in {sum(bands)} of {len(bands)} minutes.")
    return " ".join(said)
