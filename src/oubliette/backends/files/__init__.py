"""The reader and writer of checkpoints and adapters: whole models, deltas, LoRAs, what they differ by.

Imports backends' layers and attachments, and core; no backend.
Begin at `stored.py`, then `saving.py`, `lora_form.py`.
"""
