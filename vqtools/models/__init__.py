"""Networks: tensors in, tensors out. No files, no prompts, no training loops."""
