"""The audit: evaluation, attacks and probes on one model beside gold, and a verdict."""
