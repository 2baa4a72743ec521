"""Score models: networks that say where noised sites should move in a fixed host."""
