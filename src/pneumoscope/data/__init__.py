"""Data sets: where they come from, how they lie on disk, how they are split."""
