"""The workflows that come with the product, one YAML file each, to start from; scoring models and routings beside them.

A template is a whole document that compiles as it stands: take a copy, change the texts and the names, publish it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

import yaml

SCHEMA_LINE = "# yaml-language-server: $schema=workflow.schema.json"
"""By this line editors find the schema of documents, beside the file; `dripstone workflow schema` writes it."""

_MODE_LINE = re.compile(r"\A(# yaml-language-server: \$schema=).*/", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Template:
    """A document to start from."""

    id: str
    """The file's name, which suits as the id of what is made of it, too."""
    title: str
    description: str
    source: str
    """The document as YAML, with comments for whoever adapts it."""


@cache
def templates() -> tuple[Template, ...]:
    """Return every workflow, by id."""
    return _within(resources.files(__name__))


@cache
def scoring_models() -> tuple[Template, ...]:
    """Return every scoring model, by id."""
    return _within(resources.files(__name__) / "models")


@cache
def routings() -> tuple[Template, ...]:
    """Return every routing, by id."""
    return _within(resources.files(__name__) / "routings")


def _within(folder: Traversable) -> tuple[Template, ...]:
    files = (file for file in folder.iterdir() if file.name.endswith(".yaml"))
    return tuple(_read(file.name, file.read_text("utf-8")) for file in sorted(files, key=lambda file: file.name))


def _read(name: str, text: str) -> Template:
    document = yaml.safe_load(text)
    source = _MODE_LINE.sub(r"\1", text)  # where the files stand, the schema is elsewhere than in a copy
    return Template(name.removesuffix(".yaml"), document["title"], " ".join(document["description"].split()), source)
