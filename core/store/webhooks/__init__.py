"""Outbound webhooks: endpoints, messages, deliveries, attempts, whose turn it is."""
