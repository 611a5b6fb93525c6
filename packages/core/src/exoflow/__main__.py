"""``python -m exoflow``: the same as the command ``exoflow``."""

from exoflow.cli.main import main

if __name__ == "__main__":
    main()
