"""A job's life: moves, claim, lease, fenced writes, events, upkeep. Used by API and worker; knows no HTTP."""
