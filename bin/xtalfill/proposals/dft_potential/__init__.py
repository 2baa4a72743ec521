"""The method `potential`: maxima of the DFT electrostatic potential (pw.x, pp.x)."""
