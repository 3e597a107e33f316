"""The control plane: REST API, job lifecycle, storage. It never sees torch."""
