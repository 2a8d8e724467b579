"""What the server speaks beyond the protocol itself: tasks, skills, cards."""
