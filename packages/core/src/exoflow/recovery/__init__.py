"""What a journal's records mean for a workflow that must go on. Pure: no I/O, no clock."""
