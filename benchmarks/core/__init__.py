"""How fast ExoFlow is: what the machine itself takes, what we make of it, and DBOS Transact beside us, in one run.

`python -m benchmarks.core` measures; `benchmarks/README.md` says what and how.
"""
