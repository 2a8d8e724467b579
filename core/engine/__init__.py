"""The engine: the loops and the driver that move enrollments."""
