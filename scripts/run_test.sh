#!/bin/sh
# Runs one test program of cargo (`just test`). Tests that start pixtok have processes of their own
# and run two at a time. All others share libtorch's generator and take turns.
case "${1##*/}" in
    program_*) export RUST_TEST_THREADS=2 ;;
esac
exec "$@"
