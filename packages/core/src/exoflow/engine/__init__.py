"""One workflow as a pure state machine: events in, commands out. Nothing here does I/O, or asks the clock or chance."""
