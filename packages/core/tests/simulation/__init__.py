"""Simulations of whole processes on one store."""
