"""Messages to contacts on their way out, and who may be sent what."""
