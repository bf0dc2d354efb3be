"""What an update costs beside its bare passes, and what the closed forms cost."""
