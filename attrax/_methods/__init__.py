"""HOW MUCH: the attribution methods, one module per family."""
