"""Deployed agents, their executions and their tasks."""
