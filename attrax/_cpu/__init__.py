"""SCALE on one machine: programs that XLA's CPU backend runs faster, and what fits into memory."""
