#!/usr/bin/env bash
# Train on a SLURM cluster. All arguments go to train.py:
#
#   sbatch mytrain.sh                                        fit --config all.yaml
#   sbatch mytrain.sh fit --config lidc.yaml --model.lr 1e-4
#   sbatch --nodes=2 mytrain.sh fit --config all.yaml --trainer.num_nodes 2
#
# Options of sbatch before the script's name win over the lines below. Adapt partition, GPU and time
# to your cluster. A run whose `devices` and `num_nodes` are not what SLURM has given is refused.

#SBATCH --job-name=neurosam3d
#SBATCH --nodes=1
#SBATCH --gres=gpu:1
# One task per GPU: srun starts the processes, the Trainer does not.
#SBATCH --ntasks-per-node=1
# data.num_workers, and one core for the training process itself.
#SBATCH --cpus-per-task=9
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --output=slurm-%j.out
# Two minutes before the time is up SLURM signals the job. After the batch, the run is then saved as
# hpc_ckpt_*.ckpt in trainer.default_root_dir and the job requeued, which goes on from that file by
# itself, with --ckpt_path last too. Needs a cluster that allows requeues. While the file is there, a
# new run in that folder goes on from it as well: remove it, or take another task_name, to begin anew.
#SBATCH --signal=SIGUSR1@120
#SBATCH --requeue

set -euo pipefail

# SLURM runs a copy of this file from its spool folder; the repository is where sbatch was called.
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")}"

# The interpreter of `make setup`; for a conda environment: PYTHON=python sbatch mytrain.sh ...
PYTHON="${PYTHON:-.venv/bin/python}"

if [[ $# -eq 0 ]]; then
  set -- fit --config all.yaml
fi

# Compute nodes often have no internet: keep the W&B run on disk and `wandb sync` it later.
# export WANDB_MODE=offline

# In mixed-precision runs all heavy work is on the GPU; more threads per process only compete.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# Where one process ends by an error the others would wait for it.
exec srun --kill-on-bad-exit=1 "$PYTHON" train.py "$@"
