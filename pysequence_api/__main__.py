"""``python -m pysequence_api``."""

from pysequence_api.cli import main

if __name__ == "__main__":
    main()
