"""Handlers of ConnectionService."""
