"""INPAINT: propose the missing sites of a host."""
