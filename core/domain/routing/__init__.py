"""Who gets a lead: rules in order, people who are there and have room, and turns that are fair. All of it is pure."""
