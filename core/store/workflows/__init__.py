"""Workflows and what runs in them: versions, enrollments, claims, the one writer, what starts and holds them."""
