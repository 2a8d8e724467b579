"""Handlers of AgentService."""
