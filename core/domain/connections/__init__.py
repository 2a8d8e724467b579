"""Connections: HTTP calls that carry the messages of a channel. Pure: what to send, what an answer means, who waits."""
