"""Controllers on one store, in virtual time, from one seed: they die, sleep, lose answers, and must keep every promise.

The library runs as it is: engines, controllers, journals, recovery. Simulated are processes and their clocks, the store, the
executor, and the outside in which tasks have their effects. `play` plays a seed; one that shows a flaw shows it again.
"""

from exoflow.testing.simulation.play import Played, SimulationError, play

__all__ = ["Played", "SimulationError", "play"]
