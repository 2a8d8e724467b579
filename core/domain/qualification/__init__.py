"""Qualification, pure: scoring models, scores with exact reasons, owners in turn, plans."""
