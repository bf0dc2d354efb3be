"""The picture world: the small, fully known world that the embedded models were trained on."""
