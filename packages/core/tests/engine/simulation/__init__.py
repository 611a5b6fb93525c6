"""A world for the pure engine: what runs, what is stored, what happens outside, and what may be believed of it."""
