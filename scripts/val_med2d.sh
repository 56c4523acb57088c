#!/usr/bin/env bash
# Judge SAM-Med2D slice by slice on whole scans: clicks on every slice of the object.
#
#   bash scripts/val_med2d.sh                                 as set below
#   bash scripts/val_med2d.sh --protocol propagate            one box, followed through the slices
#   bash scripts/val_med2d.sh --dim 2 --ft2d                  with the misplaced masks that SAM-Med3D
#                                                             reports for it, for comparison alone
#
# CT needs a window: --intensity 'clip -160 240'. All arguments go to validation.py.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The interpreter of `make setup`; for a conda environment: PYTHON=python bash scripts/val_med2d.sh
PYTHON="${PYTHON:-.venv/bin/python}"

"$PYTHON" validation.py \
  --checkpoint_path "${CHECKPOINT:-ckpt/sam-med2d_b.pth}" \
  --test_data_path "${DATA:-data_fixed/medical_preprocessed}" \
  --data_type Ts \
  --protocol oracle_slices \
  --image_size 256 \
  --num_clicks 5 \
  --seed 2023 \
  --save_name "${SAVE_NAME:-results/sam_med2d}" \
  "$@"
