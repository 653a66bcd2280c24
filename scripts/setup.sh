#!/usr/bin/env bash
# Puts libtorch where the build looks for it: .venv holds PyPI's torch wheel, .libtorch links to it. Beside a CUDA
# version it puts libpixtok_cuda.so, which several processes on GPUs need.
#
#   scripts/setup.sh [auto|cpu|cuda]
#
# auto keeps what is installed; on a first run it installs the CUDA version if there is an NVIDIA driver, otherwise
# the small CPU version. If LIBTORCH is set in the environment, that libtorch is used and nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

# The version that torch-sys 0.26 is made for; build.rs refuses any other.
TORCH=2.13.0
STAMP=.venv/pixtok-setup
CUDA_STAMP=.venv/pixtok-cuda

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
need() { # COMMAND WHAT REMEDY
    command -v "$1" >/dev/null || fail "$2 is missing: $3"
}

driver_present() {
    [ -e /proc/driver/nvidia/version ] || [ -e /dev/nvidia0 ] || nvidia-smi -L >/dev/null 2>&1
}

check_tools() {
    local compiler="sudo apt-get install g++"
    [ "$(uname)" = Darwin ] && compiler="xcode-select --install"
    need cargo "Rust" "see https://rustup.rs"
    need "${CXX:-c++}" "a C++ compiler" "$compiler"
}

check_python() {
    need python3 "python3" "sudo apt-get install python3 python3-venv"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$(python3 --version) is too old for torch $TORCH: put python3.10 or newer first in PATH"
    # Debian ships the venv module without what it needs.
    python3 -c 'import venv, ensurepip' 2>/dev/null ||
        fail "python3 has no venv: sudo apt-get install python3-venv"
}

# A libtorch of the user's own. Only its version can be checked, and only if the folder states it.
use_own() {
    local version=""
    [ -d "$LIBTORCH/lib" ] || fail "LIBTORCH=$LIBTORCH has no lib folder: correct it, or unset it"
    if [ -f "$LIBTORCH/build-version" ]; then
        version=$(cat "$LIBTORCH/build-version")
    elif [ -f "$LIBTORCH/version.py" ]; then
        version=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" "$LIBTORCH/version.py")
    fi
    case "$version" in
        "" | "$TORCH" | "$TORCH"+*) say "using LIBTORCH=$LIBTORCH (${version:-version unknown, $TORCH is needed})" ;;
        *) fail "LIBTORCH=$LIBTORCH is version $version and $TORCH is needed: change it, or unset it" ;;
    esac
}

complete() { # KIND
    # A later `pip install` may have replaced the version that the stamp names.
    [ "$(cat "$STAMP" 2>/dev/null)" = "torch $TORCH $1" ] && [ -d .libtorch/lib ] &&
        grep -qs "^__version__ = '$TORCH[+']" .libtorch/version.py
}

packages() { # KIND
    echo "torch==$TORCH"
    # The CPU half of the x86-64 wheel is linked against these two parts of the CUDA set; the other wheels are
    # made without CUDA.
    if [ "$1" = cpu ] && [ "$(uname -sm)" = "Linux x86_64" ]; then
        echo "nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85"
    fi
}

install() { # KIND
    local options=(--quiet --disable-pip-version-check) platlib
    local version="CUDA version of libtorch $TORCH, about 4.8 GB on disk"
    if [ "$1" = cpu ]; then
        options+=(--no-deps)
        version="CPU version of libtorch $TORCH, about 1.2 GB on disk"
    fi
    if [ -e .libtorch ] && [ ! -L .libtorch ]; then
        fail ".libtorch is not a link that this script made: move it away"
    fi
    # Files without a stamp are left from an interrupted installation.
    if [ -d .libtorch ] && [ ! -s "$STAMP" ]; then
        options+=(--force-reinstall)
        say "an earlier installation was interrupted: installing again"
    fi
    say "installing the $version, into .venv"
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        # Without --clear, since `just` may be installed there. venv would keep a link to an interpreter that no longer exists.
        rm -f .venv/bin/python*
        python3 -m venv .venv || fail "python3 could not create .venv (its message is above): fix that and run again"
    fi
    platlib=$(.venv/bin/python -c 'import os, sysconfig; print(os.path.relpath(sysconfig.get_path("platlib")))')
    # Linked first: from here on an installation without a stamp is known to be unfinished.
    ln -sfn "$platlib/torch" .libtorch
    rm -f "$STAMP"
    # shellcheck disable=SC2046  # a list of words
    # -I ignores PYTHONPATH: pip must not count its packages as installed.
    .venv/bin/python -I -m pip install "${options[@]}" $(packages "$1") ||
        fail "pip could not install torch $TORCH (its message is above): fix that and run again"
    [ -d .libtorch/lib ] || fail "pip installed torch, but .libtorch/lib is missing: run \`.venv/bin/python -m pip uninstall torch\`, then setup again"
    echo "torch $TORCH $1" >"$STAMP"
    say "done"
}

# In libtorch's own folder, since that is where the program looks for libraries.
build_cuda() {
    local library=.libtorch/lib/libpixtok_cuda.so sources
    # PyPI has no CUDA version for this machine.
    [ -e .libtorch/lib/libtorch_cuda.so ] || return 0
    sources="torch $TORCH $(cat scripts/build_cuda.sh crates/torch/csrc/shim.h crates/torch/csrc/cuda/* | cksum)"
    if [ -e "$library" ] && [ "$(cat "$CUDA_STAMP" 2>/dev/null)" = "$sources" ]; then
        return
    fi
    say "compiling libpixtok_cuda.so, for several processes on GPUs (about half a minute)"
    rm -f "$CUDA_STAMP"
    scripts/build_cuda.sh .venv "$library" ||
        fail "libpixtok_cuda.so could not be made (the message is above): fix that and run again"
    echo "$sources" >"$CUDA_STAMP"
}

main() {
    local kind=${1:-auto}
    case "$kind" in
        auto | cpu | cuda) ;;
        *) fail "\"$kind\" is not one of auto, cpu, cuda" ;;
    esac
    if [ "$kind" = cuda ] && [ "$(uname -s)" = Darwin ]; then
        fail "there is no CUDA on macOS: use cpu"
    fi
    check_tools
    if [ -n "${LIBTORCH:-}" ]; then
        use_own
        return
    fi
    if [ "$kind" = auto ] && complete cuda; then
        kind=cuda
    elif [ "$kind" = auto ] && complete cpu; then
        kind=cpu
        ! driver_present || say "this machine has an NVIDIA driver, but libtorch is set up for the CPU only: \`just setup cuda\` installs the CUDA version (4.8 GB)"
    elif [ "$kind" = auto ]; then
        kind=cpu
        ! driver_present || kind=cuda
    fi
    if complete "$kind"; then
        say "already set up ($kind)"
    else
        check_python
        install "$kind"
    fi
    if [ "$kind" = cuda ]; then
        build_cuda
    fi
}

main "$@"
