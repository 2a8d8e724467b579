"""Erasing a person: where their data is, and what is left."""
