"""Answers what model calls cost, and at which prices."""
