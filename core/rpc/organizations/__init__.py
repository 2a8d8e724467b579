"""Handlers of OrganizationService."""
