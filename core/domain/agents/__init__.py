"""Agents, pure: what their work costs."""
