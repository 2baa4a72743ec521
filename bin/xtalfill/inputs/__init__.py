"""CHECK: from any input to hosts with a known number of missing sites, in batches."""
