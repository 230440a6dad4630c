"""Any source to checked splits, and the transfer set; never torch."""
