"""Output of findings, evaluations and audits for people and programs."""
