"""The results database: what every run found, so that the next one fills only what is left."""
