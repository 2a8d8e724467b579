"""Trying a workflow before it is published: the same machine on a virtual clock, over contacts in memory.

Nothing leaves: no row, no message, no socket. What others would answer is assumed, and said to be.
"""
