"""What an expert would check in a restored crystal: bonds, valences, symmetry, diffraction."""
