"""What every room may use: errors, registries, validation, files and their records. Imports no other room."""
