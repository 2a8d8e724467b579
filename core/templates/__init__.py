"""The workflows that come with the product, one YAML file each, to start from.

A template is a whole document that compiles as it stands: take a copy, change the texts and the names, publish it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

SCHEMA_LINE = "# yaml-language-server: $schema=workflow.schema.json"
"""By this line editors find the schema of documents, beside the file; `dripstone workflow schema` writes it."""

_MODE_LINE = re.compile(r"\A# yaml-language-server: .*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Template:
    """A workflow to start from."""

    id: str
    """The file's name, which suits as the id of the workflow, too."""
    title: str
    description: str
    source: str
    """The document as YAML, with comments for whoever adapts it."""


@cache
def templates() -> tuple[Template, ...]:
    """Return every template, by id."""
    files = (file for file in resources.files(__name__).iterdir() if file.name.endswith(".yaml"))
    return tuple(_read(file.name, file.read_text("utf-8")) for file in sorted(files, key=lambda file: file.name))


def _read(name: str, text: str) -> Template:
    document = yaml.safe_load(text)
    source = _MODE_LINE.sub(SCHEMA_LINE, text)  # where the files stand, the schema is elsewhere than in a copy
    return Template(name.removesuffix(".yaml"), document["title"], " ".join(document["description"].split()), source)
