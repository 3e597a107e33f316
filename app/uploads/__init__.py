"""Files on their way in: tus 1.0."""
