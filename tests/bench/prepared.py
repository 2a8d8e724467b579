"""A populated database: who stands in it, which hour its clock shows, and the one beside it in which nobody sleeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from core.store.metadata import to_micros
from tests.bench import workload
from tests.bench.session import LABELS, Session

_HOUR = timedelta(hours=1)
_LONGEST_WARM_UP = 300.0
_FLOODS = "ef"
"""First letters of the floods' addresses."""


@dataclass(slots=True)
class Prepared:
    """One database with movers, listeners, a small organization and sleepers."""

    session: Session
    kind: str
    url: str
    folder: str
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    sleepers: int = 0
    sleeper_bytes: float = 0.0
    """Of the enrollments table and its indexes, for each sleeper; on SQLite, of their share of the file."""
    hour: int = 0
    awake: Prepared = field(init=False)
    """A database like this one without sleepers, which takes turns with it."""

    @property
    def label(self) -> str:
        """Return the database's name."""
        return LABELS[self.kind]

    def next_hour(self) -> int:
        """Let an hour pass, after which the movers are due again; return the instant in microseconds."""
        self.hour += 1
        return to_micros(workload.START + self.hour * _HOUR)

    async def clone(self, title: str, *crowds: dict[str, Any], checkpoint: bool = True) -> dict[str, int]:
        """Make copies of models, tidy up and return the bytes by which each table grew."""
        admin = self.kind == "postgresql"
        url = self.session.storage.administrator_of(self.url) if admin else self.url
        told = await self.session.run(f"{self.label}: {title}", "clone", url=url, crowds=crowds, checkpoint=checkpoint)
        return dict(told["bytes"])

    async def copy(self) -> Prepared:
        """Return a copy of this database, with a clock and a folder of its own."""
        url = await self.session.new_database(self.kind, self.url)
        return Prepared(
            self.session,
            self.kind,
            url,
            str(self.session.storage.new_folder("data")),
            dict(self.models),
            hour=self.hour,
        )

    async def tidy(self) -> None:
        """Clear away what moves left behind: else PostgreSQL does so itself, in the midst of a measurement."""
        if self.kind == "postgresql":
            await self.clone("vacuumed", checkpoint=False)

    async def warm_up(self) -> None:
        """Move everybody once after a checkpoint, unmeasured: each page is then logged whole when first written to.

        What fills a table up leaves it packed as well. Only after such an hour do two databases differ by their
        sleepers alone.
        """
        await self.drain("an hour to warm up", seconds=_LONGEST_WARM_UP)

    def crowd(self, model: str, prefix: str, count: int, **due: int) -> dict[str, Any]:
        """Return the order for copies of a model."""
        known = {("model_due" if name == "due" else name): value for name, value in self.models[model].items()}
        return {**known, "prefix": prefix, "first": 0, "count": count, **due}

    async def still_models(self) -> None:
        """Put in the place of each model that is moved every hour a copy that stands still."""
        due = to_micros(workload.START + workload.STILL)
        names = [name for name, model in self.models.items() if model["due"] is not None]
        await self.clone("models", *(self.crowd(name, "0", 1, due=due) for name in names))
        for name in names:
            model = self.models[name]
            ids = {key: workload.copy_of(model[key], "0", 0) for key in ("enrollment", "contact")}
            email = workload.email("0", f"{0:0{workload.COPY_DIGITS}d}")
            self.models[name] = {"org": model["org"], "due": due, "email": email, **ids}

    async def drain(self, title: str, *, processes: int = 1, seconds: float = 0.0, **spec: Any) -> list[dict[str, Any]]:
        """Let an hour pass and move the movers, in so many processes at once."""
        order = {
            "job": "drain",
            "url": self.url,
            "folder": self.folder,
            "now": self.next_hour(),
            "seconds": seconds or self.session.options.seconds,
            "total": self.session.options.movers,
            **spec,
        }
        return await self.session.run_together(f"{self.label}: {title}", [order] * processes)

    async def restart(self) -> dict[str, Any]:
        """Let an hour pass, start a process and return when it began and when its first batch was committed."""
        order = {"url": self.url, "folder": self.folder, "now": self.next_hour(), "until": "first"}
        return await self.session.run(f"{self.label}: start to first step", "drain", **order)

    async def add_sleepers(self, *floods: timedelta, prefix: str, count: int) -> None:
        """Put so many more sleepers into the table, and floods that come due so long after the start."""
        due = to_micros(workload.START + workload.SLEEP)
        apart = workload.SLEEPERS_APART // timedelta(microseconds=1)
        size = self.session.options.flood
        crowds = [
            self.crowd("big", _FLOODS[number], size, due=to_micros(workload.START + after))
            for number, after in enumerate(floods)
        ]
        quiet = self.crowd("big", prefix, count - size * len(floods), due=due, apart=apart)
        grown = await self.clone(f"{count:,} sleepers", quiet, *crowds)
        self.sleepers += count
        self.sleeper_bytes = grown["enrollments"] / max(count, 1)


async def start(session: Session, kind: str) -> Prepared:
    """Make a database with movers, listeners and the small organization; nobody sleeps in it yet."""
    made = Prepared(session, kind, await session.new_database(kind), str(session.storage.new_folder("data")))
    told = await session.run(f"{made.label}: workflows", "populate", url=made.url, folder=made.folder)
    made.models = told["models"]
    await made.still_models()
    first_due = to_micros(workload.START + _HOUR)
    small_due = to_micros(workload.START + workload.FLOOD_AFTER + timedelta(seconds=1))
    await made.clone(
        "movers",
        made.crowd("big", "m", session.options.movers, due=first_due),
        made.crowd("listen", "w", session.options.events),
        made.crowd(
            "small",
            "t",
            workload.SMALL_GROUP * workload.SMALL_GROUPS,
            due=small_due,
            apart=1_000_000,
            group=workload.SMALL_GROUP,
        ),
    )
    return made


async def get(session: Session, kind: str) -> Prepared:
    """Return the run's populated database of a kind, with its sleepers; make it when there is none."""
    if kind not in session.prepared:
        made = await start(session, kind)
        made.awake = await made.copy()
        floods = (workload.FLOOD_AFTER, workload.BUSY_AFTER)
        await made.add_sleepers(*floods, prefix="s", count=session.options.sleepers)
        for one in (made.awake, made):
            await one.warm_up()
        session.prepared[kind] = made
    return session.prepared[kind]


async def drop(session: Session) -> None:
    """Remove the run's populated databases."""
    for made in session.prepared.values():
        for one in (made, made.awake):
            await session.drop(one.url)
    session.prepared.clear()
