"""Handlers of QualificationService, and qualifying for calls and workflows alike."""
