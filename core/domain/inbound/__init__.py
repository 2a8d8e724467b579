"""What other systems post to inbound URLs, in their own forms: is it genuine, what is it, which event is it."""
