"""A scan of 512 x 512 x 600 voxels within 6 GB of the host's memory."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np, torch
from neurosam3d.inference import Predictor
from neurosam3d.models import build_model

spacing = None if sys.argv[1] == "native" else (1.5, 1.5, 1.5)
torch.manual_seed(0)
model = build_model("vit_tiny", image_size=64)
# Foreground everywhere, so that the object is as large as the scan and windows grow all over it.
model.mask_decoder.register_forward_hook(lambda _, inputs, output: (output[0] * 0 + 1, output[1]))
scan = np.zeros((512, 512, 600), dtype=np.int16)
scan[::7, ::5, ::3] = 1000
predictor = Predictor(model, spacing=spacing)
predictor.set_image((scan, np.diag([-0.75, -0.75, 1.0, 1.0])))
for click in range(2):
    prediction = predictor.add_point([250 + click, 250, 300], 1)
    assert prediction.mask.sum() > 100e6, prediction.mask.sum()
    assert prediction.num_windows > 5
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("spacing", ["native", "1.5 mm"])
def test_large_scan_fits(spacing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, spacing], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 6e9
