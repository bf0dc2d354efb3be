"""What looks at answers."""
