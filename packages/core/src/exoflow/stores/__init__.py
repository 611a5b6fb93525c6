"""Places that keep bytes: the contract they all fulfil, what a key may look like, and a store in memory."""
