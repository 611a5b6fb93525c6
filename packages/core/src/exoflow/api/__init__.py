"""What users call: the functions of `exoflow`, the engine behind them, and handles."""
