"""The experiments: one folder for each kind of workflow."""
