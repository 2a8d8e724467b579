"""Tenants, their people and their keys."""
