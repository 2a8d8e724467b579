"""What commands on the running core share: they show what would happen, and act where --yes is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from dripstone.v1.client import Client

yes_option = click.option("--yes", is_flag=True, help="Do it. Without it only what would happen is shown.")

_DEADLINE = 60.0
"""Seconds: whoever acts on a whole workflow waits for its last enrollment."""


def client() -> Client:
    """Return a client of the running core. Raises NotConnected."""
    from dripstone.v1.client import from_environment

    return from_environment(deadline=_DEADLINE)


def as_data(message: Message) -> dict[str, Any]:
    """Return an answer as plain data, what is empty or nought as well."""
    from google.protobuf.json_format import MessageToDict

    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


def instant(time: Timestamp) -> str:
    """Return an instant for people, in UTC; empty where it is not set."""
    return f"{time.ToDatetime(UTC):%Y-%m-%d %H:%M} UTC" if time.ToNanoseconds() else ""


def word(enum: Any, number: int) -> str:
    """Return a value of an enumeration as one writes it in filters, such as `paused`."""
    names: list[str] = enum.keys()
    own: str = enum.Name(number)
    return own[len(names[0].removesuffix("UNSPECIFIED")) :].lower()


def counts(found: Mapping[str, int]) -> str:
    """Return counts in words, such as `active 3, completed 2`."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(found.items()) if count)


def table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """Return an empty table; what is in `numbers` stands to the right."""
    made = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for column in made.columns:
        if str(column.header) in numbers:
            column.justify = "right"
    made.columns[0].no_wrap = True  # ids and names are there to be copied
    return made


def row(made: Table, *cells: object) -> None:
    """Add a row, as it stands: what users wrote is no markup."""
    made.add_row(*(Text(str(cell)) for cell in cells))


def not_done(how: str = "--yes") -> None:
    """Tell that nothing has changed, and how it does."""
    click.echo(f"Nothing has changed. To do it, say the same with {how}")
