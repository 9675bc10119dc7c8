#!/usr/bin/env bash
# A training on several machines under SLURM. All words go to tools/train_net.py; from the checkout's root:
#
#   sbatch examples/slurm_train.sh --config-file configs/coco/mtl_R_50_FPN_1x.yaml
#   sbatch --nodes 4 --gpus-per-node 4 examples/slurm_train.sh --config-file FILE SOLVER.IMS_PER_BATCH 64
#
# One task per machine, which starts one process per GPU. SOLVER.IMS_PER_BATCH is that of all machines together.
# A job that SLURM starts again goes on from its last checkpoint.
#SBATCH --job-name=mtl_d2
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=slurm-%j.out
set -euo pipefail
: "${SLURM_JOB_NODELIST:?SLURM_JOB_NODELIST is not set: submit this file with sbatch}"
cd "$SLURM_SUBMIT_DIR" # sbatch runs a copy of this file

read -r master < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000)) # jobs that share a machine get different ones
restarted=()
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
    restarted=(--resume)
fi

# In single quotes: SLURM_NODEID is the number of the machine that the task runs on.
srun --cpus-per-task "$SLURM_CPUS_PER_TASK" bash -c 'exec python tools/train_net.py --machine-rank "$SLURM_NODEID" "$@"' train \
    --num-machines "$SLURM_JOB_NUM_NODES" --num-gpus "$SLURM_GPUS_ON_NODE" --dist-url "tcp://$master:$port" \
    "${restarted[@]}" "$@"
