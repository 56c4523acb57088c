"""Prepare data for training: `python data.py --help` tells how."""

import sys

from utils.prepare_data import main

if __name__ == "__main__":
    sys.exit(main())
