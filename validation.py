"""Judge a network click by click on whole scans; the same as `neurosam3d evaluate`.

python validation.py -cp ckpt/sam_med3d.pth -tdp DIR -vp visualization --save_name results.json
"""

import sys

from neurosam3d.__main__ import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
