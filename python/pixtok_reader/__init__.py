"""Readers of what pixtok writes: `tokens` for token files (numpy), `model` for tokenizers (PyTorch)."""
