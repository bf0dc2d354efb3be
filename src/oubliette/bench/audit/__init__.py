"""Every eraser at hand through the same attacks."""
