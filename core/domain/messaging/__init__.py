"""What holds for messages to people: consent, suppressed addresses, unsubscribe links, bounces. Pure."""
