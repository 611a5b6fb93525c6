"""The demonstration and the experiments of ExoFlow.

The suites (machine learning, serverless, graphs, single operations) and the systems they are compared with are not
here yet.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
