"""Failures on purpose: where they happen (`points`), when (`triggers`), what they do (`actions`), as data (`injectors`)."""
