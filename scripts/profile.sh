#!/usr/bin/env bash
# Draws a flame graph of a training run as target/profile.svg, from Linux's perf:
#
#     scripts/profile.sh [CONFIG] [--set KEY=VALUE]…       20 steps of configs/photos96-fsq.toml, unless told otherwise
#
# Installs inferno, which draws it, into target/tools, once.
set -euo pipefail
cd "$(dirname "$0")/.."

TOOLS=target/tools
INFERNO=0.12.8
DATA=target/profile.perf
OUT=target/profile.svg

say() { echo "profile: $*" >&2; }

command -v perf >/dev/null || {
    say "perf is missing: install your kernel's tools (Debian: apt install linux-perf, Ubuntu: linux-tools-generic)"
    exit 1
}
if ! perf record --quiet --output /dev/null true 2>/dev/null; then
    say "perf may not record here: try sysctl kernel.perf_event_paranoid=1, or a machine that is not a container"
    exit 1
fi
if ! grep -qs "^\"inferno $INFERNO " "$TOOLS/.crates.toml"; then
    say "installing inferno $INFERNO into $TOOLS"
    cargo install --quiet --locked --root "$TOOLS" --version "$INFERNO" inferno
fi

config=configs/photos96-fsq.toml
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    config=$1
    shift
fi
run=$(mktemp -d)
map=
trap 'rm -rf "$run" "$DATA" "$map"' EXIT
# By the unwind tables, since libtorch has no frame pointers. oneDNN's kernels are made at run time: asked to, it writes their
# names where perf looks for them; what called them cannot be seen, so they stand beside the rest and not on top of it.
ONEDNN_JIT_PROFILE=2 perf record --quiet --freq 199 --call-graph dwarf,16384 --output "$DATA" -- \
    target/release/pixtok train "$config" --run "$run/run" --device cpu \
    --set train.steps=20 --set train.eval_every=100000 --set optimizer.schedule.warmup_steps=0 "$@"
map=/tmp/perf-$(perf script --input "$DATA" --fields pid 2>/dev/null | awk 'NF && !pid { pid = $1 } END { print pid }').map
perf script --no-inline --input "$DATA" 2>/dev/null |
    "$TOOLS/bin/inferno-collapse-perf" |
    "$TOOLS/bin/inferno-flamegraph" --title "pixtok train $config $*" >"$OUT"
say "drawn as $OUT; open it in a browser"
