"""What a spec may name."""
