"""The straight lines that commands run, from names to folders: the only floor that joins rooms."""
