"""The workers: who takes jobs, and how each is."""
