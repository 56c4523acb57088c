#!/usr/bin/env bash
# Judge a network on a test set, a part of the scans on each GPU, and print one table:
#
#   bash val.sh                                  on all GPUs of this machine, or on its CPU
#   GPUS="0 2" bash val.sh -nc 10                on two of them; all arguments go to validation.py
#   GPUS="0 0" bash val.sh                       two processes on one GPU: one reads, one computes
#
# A part that was stopped goes on when this is called again. In a SLURM array, one part per task:
#
#   python validation.py ... --split_num "$SLURM_ARRAY_TASK_COUNT" --split_idx "$SLURM_ARRAY_TASK_ID"

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The interpreter of `make setup`; for a conda environment: PYTHON=python bash val.sh ...
PYTHON="${PYTHON:-.venv/bin/python}"

CHECKPOINT="${CHECKPOINT:-ckpt/sam_med3d.pth}"
DATA="${DATA:-data_fixed/medical_preprocessed}"    # a prepared tree, or images and labels
SAVE_NAME="${SAVE_NAME:-results/prompt_roi}"       # files SAVE_NAME_s<N>i<I>.json and so on

# One part per GPU named; without any, one part on the CPU.
GPUS="${GPUS-$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null || true)}"
read -r -a gpus <<< "$(echo "${GPUS:-cpu}" | tr '\n' ' ')"
num="${#gpus[@]}"

pids=()
parts=()
for index in "${!gpus[@]}"; do
  device="cuda:${gpus[$index]}"
  [[ "${gpus[$index]}" == cpu ]] && device=cpu
  # To run the parts in turn instead of at once, take away the & at the end and the wait below.
  "$PYTHON" validation.py \
    --checkpoint_path "$CHECKPOINT" \
    --test_data_path "$DATA" \
    --data_type Ts \
    --protocol prompt_roi \
    --num_clicks 5 \
    --seed 2023 \
    --save_name "$SAVE_NAME" \
    --device "$device" \
    --split_num "$num" --split_idx "$index" \
    "$@" &
  pids+=("$!")
  if ((num > 1)); then
    parts+=("${SAVE_NAME}_s${num}i${index}.json")
  else
    parts+=("$SAVE_NAME.json")
  fi
done

# 1: a file could not be read, and the rest was judged; more: there is no result.
worst=0
for pid in "${pids[@]}"; do
  wait "$pid" || worst=$(($? > worst ? $? : worst))
done
if ((worst <= 1)); then
  "$PYTHON" sum_result.py "${parts[@]}"
fi
exit "$worst"
