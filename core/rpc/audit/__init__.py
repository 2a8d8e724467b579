"""Handlers of AuditService."""
