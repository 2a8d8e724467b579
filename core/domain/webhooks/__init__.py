"""Outbound webhooks as pure rules: addresses, URLs, events, signatures, what an answer means, when to try again."""
