"""The embedded worlds from outside: sheets of them, their bars, the training of their models."""
