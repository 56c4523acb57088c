#!/usr/bin/env bash
# Judge SAM slice by slice on whole scans: clicks on every slice of the object.
#
#   bash scripts/val_sam.sh                                   as set below
#   bash scripts/val_sam.sh --protocol propagate              one box, followed through the slices
#   CHECKPOINT=sam_vit_l.pth bash scripts/val_sam.sh          all arguments go to validation.py
#
# CT needs a window: --intensity 'clip -160 240'. SAM is fed as it was trained; --feeding slicewise is
# how SAM-Med3D judged it.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The interpreter of `make setup`; for a conda environment: PYTHON=python bash scripts/val_sam.sh
PYTHON="${PYTHON:-.venv/bin/python}"

"$PYTHON" validation.py \
  --checkpoint_path "${CHECKPOINT:-ckpt/sam_vit_b_01ec64.pth}" \
  --test_data_path "${DATA:-data_fixed/medical_preprocessed}" \
  --data_type Ts \
  --protocol oracle_slices \
  --image_size 1024 \
  --num_clicks 10 \
  --seed 2023 \
  --save_name "${SAVE_NAME:-results/sam_vit_b}" \
  "$@"
