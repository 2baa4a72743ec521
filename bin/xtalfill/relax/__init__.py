"""RELAX: the sites alone, then all atoms, both in the fixed cell, with a pretrained potential."""
