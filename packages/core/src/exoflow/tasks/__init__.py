"""Functions and what they promise."""
