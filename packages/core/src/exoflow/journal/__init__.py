"""Durability: journals, claims and take-over, above the five verbs of a store."""
