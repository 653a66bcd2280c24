#!/usr/bin/env bash
# Compiles libpixtok_cuda.so, opens it as the program does, and calls it, on a machine without a GPU. Against the CUDA
# set of the torch wheel in .venv-readers, which scripts/venv.sh installs (5.3 GB, once). What NCCL does on GPUs is not
# tried.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv-readers
LIBRARY=target/nccl/libpixtok_cuda.so

say() { echo "check-nccl: $*" >&2; }

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    say "PyPI's torch has a CUDA part only for Linux on x86-64: nothing is checked"
    exit
fi
mkdir -p "$(dirname "$LIBRARY")"
scripts/build_cuda.sh "$VENV" "$LIBRARY"
# No GPU is visible, so that the call ends before it looks at the empty store.
CUDA_VISIBLE_DEVICES='' "$VENV/bin/python" -I - "$LIBRARY" <<'PYTHON'
import ctypes, os, sys, sysconfig

torch = sysconfig.get_path("platlib") + "/torch/lib"
# As in px_load_cuda and px_load_nccl. RTLD_NOW looks up every symbol.
ctypes.CDLL(f"{torch}/libtorch_cuda.so", mode=os.RTLD_NOW | os.RTLD_GLOBAL)
make_group = ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW | os.RTLD_LOCAL).pxc_nccl
make_group.restype = ctypes.c_char_p
store, backend = ctypes.c_void_p(), ctypes.c_void_p()
error = make_group(ctypes.byref(store), 0, 2, ctypes.c_int64(1000), b"check", ctypes.byref(backend))
if error is None or b"CUDA" not in error:
    sys.exit(f"check-nccl: without a GPU, an error of CUDA is expected, not {error}")
print(f"without a GPU: {error.decode().splitlines()[0]}")
PYTHON
say "$LIBRARY compiles against the CUDA set, all its symbols are found, and it opens"
