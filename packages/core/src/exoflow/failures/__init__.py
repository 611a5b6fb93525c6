"""Failures on purpose: where they can happen (`points`), and what makes them (`injectors`)."""
