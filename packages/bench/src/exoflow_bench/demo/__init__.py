"""`exoflow demo`: the training pipeline through a real crash, and an account of what became of every task."""
