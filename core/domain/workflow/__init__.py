"""Workflow documents: text, checks, expressions, templates, and the version they compile to."""
