"""Weights from and to files: safetensors, GGUF, peft adapters, Orbax steps."""
