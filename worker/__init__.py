"""The data plane: claims jobs, supervises training children, publishes what they made."""
