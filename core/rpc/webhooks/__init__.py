"""Handlers of WebhookService."""
