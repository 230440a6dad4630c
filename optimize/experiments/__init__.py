"""What measures the suite itself: error rates, ablations, throughput, memory, cold start."""
