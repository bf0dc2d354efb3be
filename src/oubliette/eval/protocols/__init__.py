"""The field's own protocols, each with its figures."""
