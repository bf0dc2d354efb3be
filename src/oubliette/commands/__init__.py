"""The command line's commands: each parses, calls one workflow, prints."""
