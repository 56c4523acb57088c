#!/usr/bin/env bash
# Segment a scan with MedSAM by a box in space:
#
#   bash scripts/medsam_infer.sh ct.nii.gz 60,70,31,95,110,44 mask.nii.gz
#   bash scripts/medsam_infer.sh t1.nii.gz 60,70,31,95,110,44 mask.nii.gz --intensity medsam
#
# The box is its lowest and highest voxel; the same box is given on every slice that it meets. The
# intensities are those of soft tissue in CT, --intensity medsam those of everything but CT.

set -euo pipefail

if (($# < 3)); then
  echo "usage: medsam_infer.sh IMAGE i0,j0,k0,i1,j1,k1 OUT [neurosam3d segment's options]" >&2
  exit 2
fi
PYTHON="${PYTHON:-python}"

"$PYTHON" -m neurosam3d segment "$1" \
  --box "$2" \
  --output "$3" \
  --checkpoint "${CHECKPOINT:-ckpt/medsam_vit_b.pth}" \
  --model medsam_vit_b \
  --intensity "clip -160 240" \
  "${@:4}"
