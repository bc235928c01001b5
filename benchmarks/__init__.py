"""What attrax costs, measured: `python -m benchmarks`, or `--quick` for a look.

Every claim is a ratio against a peer, or a limit, taken in one run on one machine. Compiling is
never counted with running.
"""
