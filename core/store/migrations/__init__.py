"""Migrations: one tree for both databases."""
