"""The HTML pages of runs, sweeps and comparisons: one self-contained file each. Imports no torch."""
