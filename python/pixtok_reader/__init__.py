"""What pixtok writes: `tokens` reads token files and writes generated ids, `model` runs tokenizers."""
