"""Handlers of EventService, and what every way in for events has in common."""
