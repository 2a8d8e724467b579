"""What leaves the process: signed webhooks, sent from the outbox by a guarded client."""
