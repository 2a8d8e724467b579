"""Connections to other systems, their credentials, and keeping records in step with them."""
