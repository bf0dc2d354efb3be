"""Draws of supervised data and their losses: pictures to denoise, answers to give."""
