"""A controller: one journal, the workflows it runs, and the executors that run their tasks; where the engine meets the world."""
