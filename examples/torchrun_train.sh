#!/usr/bin/env bash
# A training by torchrun, one process per GPU. All words go to tools/train_net.py:
#
#   examples/torchrun_train.sh --config-file configs/coco/mtl_R_50_FPN_1x.yaml
#   NPROC=2 examples/torchrun_train.sh --config-file configs/quick/shapes.yaml MODEL.DEVICE cpu
#
# On several machines, the same command on each, with the number of machines, its own number and one address for all:
#
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=node0 examples/torchrun_train.sh --config-file FILE
#   NNODES=2 NODE_RANK=1 MASTER_ADDR=node0 examples/torchrun_train.sh --config-file FILE
#
# NPROC: processes per machine (8)   NNODES: machines (1)   MASTER_PORT: of MASTER_ADDR (29500)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "${NNODES:-1}" -eq 1 ]; then
    rendezvous=(--standalone) # a free port of this machine
else
    : "${NODE_RANK:?NODE_RANK is not set: 0 on the machine of MASTER_ADDR, then 1, 2, ...}"
    : "${MASTER_ADDR:?MASTER_ADDR is not set: the host name of the machine with NODE_RANK 0}"
    rendezvous=(--nnodes "$NNODES" --node-rank "$NODE_RANK"
        --master-addr "$MASTER_ADDR" --master-port "${MASTER_PORT:-29500}")
fi
exec torchrun "${rendezvous[@]}" --nproc-per-node "${NPROC:-8}" tools/train_net.py "$@"
