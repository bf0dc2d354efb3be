"""The reader and writer of checkpoints and adapters: whole models, deltas, LoRAs, what they differ by.

Imports backends' layers, and core; no backend.
Begin at `stored.py`, then `delta.py`, `lora_form.py`.
"""
