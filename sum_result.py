"""Show what result files hold: `python sum_result.py --help` tells how."""

import sys

from neurosam3d.commands.summary import main
from neurosam3d.mistakes import told_in_one_sentence

if __name__ == "__main__":
    with told_in_one_sentence(sys.argv):
        main(sys.argv)
