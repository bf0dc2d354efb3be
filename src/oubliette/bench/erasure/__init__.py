"""Every eraser under one harness: erase, draw, judge, and set side by side."""
