"""What a run found out: figures, each beside what it is measured against."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Aim:
    """What the ratio or the value should come to."""

    of: Literal["ratio", "value"]
    sign: Literal[">=", "<="]
    bound: float

    def met_by(self, ratio: float, value: float) -> bool:
        """Tell whether the figure is where it should be."""
        figure = ratio if self.of == "ratio" else value
        return figure >= self.bound if self.sign == ">=" else figure <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement."""

    part: str
    what: str
    database: str
    value: float
    unit: str
    against: str = ""
    """What it is compared with; empty for a floor, which is compared with nothing."""
    against_value: float = 0.0
    aim: Aim | None = None
    samples: tuple[float, ...] = ()
    """One a round; the value is their median."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Return value over what it is measured against."""
        return self.value / self.against_value if self.against and self.against_value else None

    @property
    def met(self) -> bool | None:
        """Tell whether the aim is met; None without one."""
        return None if self.aim is None else self.aim.met_by(self.ratio or 0.0, self.value)

    def spoken(self) -> tuple[str, str, str, str, str, str]:
        """Return what, database, value, against, ratio and aim as people read them."""
        against = f"{quantity(self.against_value)} {self.against}" if self.against else ""
        ratio = "" if self.ratio is None else quantity(self.ratio)
        return self.what, self.database, f"{quantity(self.value)} {self.unit}", against, ratio, _spoken_aim(self)


@dataclass(slots=True)
class Report:
    """The figures of one run and where they come from."""

    machine: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What was asked for and not measured, with the reason."""

    def find(self, part: str, what: str, database: str) -> Figure | None:
        """Return a figure by its name, or None."""
        found = (f for f in self.figures if (f.part, f.what, f.database) == (part, what, database))
        return next(found, None)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        figures = [{**asdict(figure), "ratio": figure.ratio, "met": figure.met} for figure in self.figures]
        return {"machine": self.machine, "figures": figures, "left_out": self.left_out}

    def table(self) -> Table:
        """Return the figures for a terminal."""
        title = "Bench: this machine, this run, medians"
        table = Table("what", "database", "figure", "against", "ratio", "aim", title=title)
        for column in (2, 4):
            table.columns[column].justify = "right"
        part = ""
        for figure in self.figures:
            if part and figure.part != part:
                table.add_section()
            part = figure.part
            colour = {None: "", True: "[green]", False: "[red]"}[figure.met]
            *cells, aim = figure.spoken()
            table.add_row(*cells, f"{colour}{aim}")
        return table


def quantity(number: float) -> str:
    """Return a number with as many digits as it deserves."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    if abs(number) >= 10:
        return f"{number:.1f}"
    return f"{number:.2f}" if abs(number) >= 0.1 else f"{number:.3g}"


def _spoken_aim(figure: Figure) -> str:
    if figure.aim is None:
        return ""
    unit = f" {figure.unit}" if figure.aim.of == "value" else ""
    return f"{figure.aim.sign} {quantity(figure.aim.bound)}{unit}: {'met' if figure.met else 'not met'}"
