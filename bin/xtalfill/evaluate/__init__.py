"""Compare candidates with reference structures and sum up how often they are right."""
