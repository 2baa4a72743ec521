"""Reverse diffusion: the samplers, their noise and their settings."""
