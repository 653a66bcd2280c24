"""What pixtok writes: `tokens` reads token files and writes generated ids (numpy), `model` runs tokenizers (torch)."""
