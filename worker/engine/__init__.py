"""The distillation engine: a PyTorch library that knows no queue, no HTTP and no database. Tensors in, events out."""
