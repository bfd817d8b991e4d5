"""Findings, evaluations and audits for people and programs to read."""
