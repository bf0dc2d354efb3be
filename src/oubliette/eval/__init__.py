"""Measuring: judges, leakage, utility, fidelity, controls, verdicts. Nothing in this room trains."""
