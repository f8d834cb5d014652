"""Networks: tensors in, tensors out. Knows nothing about files, losses or settings."""
