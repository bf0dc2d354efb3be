"""How the embedded models were trained: one file a model, one command for all (`oubliette world train`)."""
