"""The demonstration and the experiments of ExoFlow.

`exoflow demo` runs the first suite, `exoflow_bench.suites.ml`, through a real crash. The other suites (serverless,
graphs, single operations) and the systems they are compared with are not here yet.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
