"""WHERE: taps, models, addresses of layers, cuts and edits."""
