"""Commands that are loaded when they are called: what they need takes longer to load than other commands to run."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click


class Later(click.Command):
    """Stands for a command, or a group of them, in the list of commands; becomes it when it is called."""

    def __init__(self, place: str, short_help: str):
        """Stand for what is at `module:name`."""
        self._module, _, name = place.partition(":")
        super().__init__(name, short_help=short_help)

    def load(self) -> click.Command:
        """Return the command itself."""
        command = getattr(import_module(self._module), str(self.name))
        assert isinstance(command, click.Command)
        return command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Begin a call: of the command itself."""
        return self.load().make_context(info_name, args, parent, **extra)
