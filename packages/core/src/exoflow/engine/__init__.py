"""One workflow as a pure state machine, and the driver around it, where it meets the world."""
