#!/usr/bin/env bash
# Compiles libpixtok_cuda.so (crates/torch/csrc/cuda), without which only one process can train on GPUs:
#
#   scripts/build_cuda.sh VENV OUTPUT
#
# VENV holds PyPI's torch wheel with its CUDA set, nccl.h among it. Two packages with CUDA's other headers are added
# (3 MB, 15 MB on disk). It needs no GPU.
set -euo pipefail

VENV=$1
OUTPUT=$2
# The versions of CUDA 13.0, which torch 2.13.0 is made with.
HEADERS=(nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85)

packages=$("$VENV/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
"$VENV/bin/python" -I -m pip install --quiet --disable-pip-version-check --no-deps "${HEADERS[@]}"
# The program has loaded these libraries when it opens this one. They are named so that a symbol that they lack is an
# error of the linker. The file is moved into place at the end, since a running program may have the earlier one open.
"${CXX:-c++}" -std=c++20 -O2 -fPIC -shared -pthread -DUSE_C10D_NCCL \
    -isystem "$packages/torch/include" -isystem "$packages/torch/include/torch/csrc/api/include" \
    -isystem "$packages/nvidia/cu13/include" -isystem "$packages/nvidia/nccl/include" \
    "$(dirname "$0")/../crates/torch/csrc/cuda/nccl.cpp" -o "$OUTPUT.$$" \
    -L"$packages/torch/lib" -Wl,-z,defs -ltorch_cuda -ltorch_cpu -lc10_cuda -lc10
mv "$OUTPUT.$$" "$OUTPUT"
