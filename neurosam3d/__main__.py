"""`python -m neurosam3d` and the console script `neurosam3d`: the command line of `train.py`."""

from neurosam3d.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
