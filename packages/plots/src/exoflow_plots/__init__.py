"""Figures of the ExoFlow experiments, drawn from result files alone; empty in this version.

It will hold one module per figure. It imports no other package of ExoFlow, so that a figure can be drawn years after
the system that was measured has changed.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
