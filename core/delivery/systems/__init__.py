"""Clients of outside systems of record, and the loop that keeps both sides in step.

Every call passes the address guard.
"""
