"""Train, validate, test and predict: `python train.py fit --config demo.yaml` and so on.

Everything is in `neurosam3d.cli`; this script adds the names of the sets that a recipe may hold.
"""

from neurosam3d.cli import main
from utils.data_list import POSSIBLE_DATASETS

if __name__ == "__main__":
    main(possible_datasets=POSSIBLE_DATASETS)
