"""Handlers of WorkflowService."""
