# Recipes; `just` alone lists them. Arguments reach the program as they were quoted.
set positional-arguments
set ignore-comments

# The running `just`, which may not be on the PATH.
just := quote(just_executable())
pixtok := "cargo run --release --quiet --locked --"
# Cargo starts each test program by the script, which says how many of its tests run at a time.
by_script := quote("target.'cfg(unix)'.runner='" + justfile_directory() + "/scripts/run_test.sh'")

_list:
    @{{ just }} --list --unsorted

# Install libtorch: auto, cpu or cuda
setup KIND="auto":
    @scripts/setup.sh "$1"

# Train on the embedded photographs, evaluate, leave pictures to look at
[script("bash")]
demo STEPS="800" RUN="checkpoints/demo": setup
    set -euo pipefail
    if [ ! -e target/release/pixtok ]; then
        echo "building pixtok: 5 to 15 minutes the first time; training and evaluation follow" >&2
    fi
    cargo build --release --locked
    if [ -e "$2" ]; then
        # Nothing but a run folder is ever removed.
        [ -f "$2/config.toml" ] && [ -f "$2/.lock" ] || { echo "demo: $2 exists and is not a run folder" >&2; exit 2; }
        echo "demo: removing the earlier $2" >&2
        rm -rf "$2"
    fi
    {{ pixtok }} train configs/quickstart-fsq.toml --run "$2" --set train.steps="$1"
    {{ pixtok }} reconstruct "$2" data/photos96/val --sheet "$2/reconstructions.png" >/dev/null
    {{ pixtok }} eval "$2"
    echo "originals above their reconstructions: $2/reconstructions.png"
    echo "next: {{ just }} train configs/quickstart-fsq.toml --data YOUR_PICTURES --run checkpoints/mine"

# Run every test
test *ARGS: setup
    # One thread in libtorch: the same sums everywhere, and none that wait for each other on a busy machine.
    OMP_NUM_THREADS=1 cargo test --config {{ by_script }} --release --locked --workspace "$@"

# Run the numerical tests as on an older processor: with AVX2 if this one has AVX-512, without AVX if not
[script("bash")]
test-older *ARGS: setup
    set -euo pipefail
    if grep -qsw avx512f /proc/cpuinfo; then
        export ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
    else
        export ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41
    fi
    export OMP_NUM_THREADS=1
    cargo test --config {{ by_script }} --release --locked --test program_golden --test program_exact --test 'reference*' "$@"

# Test resizing at the edges of pictures under AddressSanitizer (compiles for a minute, once)
[script("bash")]
test-asan:
    set -euo pipefail
    # Every toolchain has the sanitizer, but only those that accept unfinished features take its
    # flag. The explicit target keeps it out of build scripts. Doc tests are linked without it.
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
    cargo test --release --locked --package pixtok-pixels --lib --tests --target-dir target/asan --target "$(rustc -vV | sed -n 's/^host: //p')"

# Licenses, origins and known weaknesses of the dependencies (needs cargo-deny: cargo install cargo-deny, five minutes)
[script("bash")]
audit:
    set -euo pipefail
    checks=(licenses bans sources)
    if [ -d "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" ]; then
        checks+=(advisories)
    else
        echo "audit: no advisories, for there is no copy of their database; cargo deny fetch db makes one" >&2
    fi
    cargo deny --offline check "${checks[@]}"

# Build and test the crates that need no libtorch, without it
test-light:
    LIBTORCH=/nonexistent cargo test --release --locked --package pixtok-base --package pixtok-pixels \
        --package pixtok-images --package pixtok-tokens --package pixtok-report

# Everything the CI checks: format, lints, tests, edges under AddressSanitizer, a tiny demo
check: setup
    cargo fmt --all --check
    cargo clippy --release --locked --workspace --all-targets -- -D warnings
    {{ just }} test-light
    {{ just }} test
    {{ just }} test-older
    {{ just }} test-asan
    {{ just }} demo 60 checkpoints/demo-check

# Train a tokenizer: just train configs/photos96-vq.toml --run checkpoints/vq
[no-exit-message]
train CONFIG *ARGS: setup
    @{{ pixtok }} train "$@"

# Measure a trained tokenizer: just eval checkpoints/vq
[no-exit-message]
eval RUN *ARGS: setup
    @{{ pixtok }} eval "$@"

# Train and measure several tokenizers alike: just compare configs/compare/fsq-vs-vq.toml
[no-exit-message]
compare SWEEP *ARGS: setup
    @{{ pixtok }} compare "$@"

# Print versions, device, threads, precision support, and what is missing
[no-exit-message]
doctor *ARGS: setup
    @{{ pixtok }} doctor "$@"

# Speed and memory beside PyTorch, in turn with it (40 minutes on two cores; --only ROWS, --quick, --data JPEGS; docs/performance.md)
bench *ARGS: setup
    cargo build --release --quiet --locked
    @scripts/venv.sh
    @bench/run.py "$@"

# The same and whole runs, with the time to PyTorch's quality (two hours more)
bench-full *ARGS: setup
    cargo build --release --quiet --locked
    @scripts/venv.sh
    @bench/run.py --full "$@"

# What a second rank of one thread brings, ours beside DistributedDataParallel over Gloo (15 minutes on two idle cores; --turns N, --quick)
bench-ranks *ARGS: setup
    cargo build --release --quiet --locked
    @scripts/venv.sh
    @bench/ranks.py "$@"

# Write the tables of docs/scaling.md, which are of a model (needs Python 3.11, nothing else; --check is part of check-docs)
scaling-model:
    @scripts/scaling_model.py --write

# The inner parts of training one by one: just bench-hot norm_silu
bench-hot *ARGS: setup
    @cargo bench --quiet --locked --profile release --bench hot_paths -- "$@"

# A flame graph of a short training run, target/profile.svg (needs perf): just profile configs/photos96-vq.toml --set train.steps=50
profile *ARGS: setup
    cargo build --release --quiet --locked
    @scripts/profile.sh "$@"

# What an evaluation costs beside encoding and decoding, and its memory, over 10,000 images (3 minutes on two cores)
bench-eval *ARGS: setup
    cargo build --release --quiet --locked
    @scripts/bench_eval.py "$@"

# What saving every 500 steps costs a training, from a save every 25 (5 minutes on two cores; bench-saving CONFIG --set KEY=VALUE)
bench-saving *ARGS: setup
    cargo build --release --quiet --locked
    @scripts/bench_saving.py "$@"

# A ViT trained at 64×64 at other sizes, by positions and attention norm, the table of docs/networks.md (goes on where it stopped)
measure-positions *ARGS: setup
    cargo build --release --quiet --locked
    @scripts/measure_positions.py "$@"

# Quantizers by kind and codebook size, and the search beside torch.cdist (the tables of docs/quantizers.md and docs/performance.md)
bench-quantizers: setup
    @cargo bench --quiet --locked --profile release --bench quantizers

# Images to tokens beside a PyTorch script, on photographs (bench-encode --data DIR; some minutes, and the packages of test-python)
bench-encode *ARGS: setup
    cargo build --release --quiet --locked
    @scripts/venv.sh
    @scripts/bench_encode.py "$@"

# Read token files of every format with the programs that they are made for (5.3 GB of Python packages, once)
test-readers: setup
    cargo build --release --quiet --locked
    @scripts/venv.sh
    @.venv-readers/bin/python scripts/test_readers.py

# Compare exported tokenizers in Python with pixtok, and import weights in every wrapping (the same packages)
test-python: setup
    cargo build --release --quiet --locked
    @scripts/venv.sh
    @.venv-readers/bin/python scripts/test_weights.py
    @.venv-readers/bin/python scripts/test_python.py

# Train in several processes by torchrun, Open MPI and MPICH, on two hosts of network namespaces, with kills, stops and restarts (five minutes; the packages of test-readers, and two MPI wheels into .venv-ranks, 53 MB)
test-ranks *ARGS: setup
    cargo build --release --quiet --locked
    @scripts/venv.sh
    @.venv-readers/bin/python scripts/test_ranks.py "$@"

# Compile what several processes on GPUs need, and open it without a GPU (the packages of test-readers)
check-nccl:
    @scripts/venv.sh
    @scripts/check_nccl.sh

# Run every command of the pages for newcomers on tiny settings, and compare docs/scaling.md with its model (the packages of test-readers)
check-docs: setup
    cargo build --release --quiet --locked
    @scripts/venv.sh
    @.venv-readers/bin/python scripts/check_docs.py
    @.venv-readers/bin/python scripts/scaling_model.py --check
