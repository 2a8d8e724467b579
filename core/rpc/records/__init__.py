"""Handlers of RecordService."""
