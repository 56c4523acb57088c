"""Judge a network click by click on whole scans, called as for LIDC; the same as `validation.py`.

python test.py --seed 2023 -cp ckpt/sam_med3d.pth -tdp DIR -vp visualization -nc 5
"""

import sys

from neurosam3d.__main__ import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
