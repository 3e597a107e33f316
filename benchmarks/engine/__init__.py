"""The engine's training loop against the loop of research scripts, and against the least that a loop can do."""
