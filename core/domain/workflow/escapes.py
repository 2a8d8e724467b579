"""How a text writes the values that it is given, so that they cannot become anything but text in it."""

from __future__ import annotations

from typing import Literal

VALUE_BEGINS, VALUE_ENDS = "\x01", "\x02"
"""Around each value in a JSON text, until it is known to stand where it may; escaped values never hold them."""

Escape = Literal["none", "html", "json", "quoted", "url"]
"""How values are written: as they are, or so that they cannot be anything but text in HTML, in JSON or in a URL.

`quoted` writes each as a JSON string of one line: who reads the text sees where a value begins and where it ends.
"""
