"""Handlers of EnrollmentService, and bringing contacts into workflows."""
