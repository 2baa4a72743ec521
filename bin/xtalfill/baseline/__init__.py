"""Proposals without a network: maxima of the DFT electrostatic potential, or the largest voids."""
