"""Starts `python -m api`."""

from api.cli import main

if __name__ == "__main__":
    main()
