"""Answers that are kept: what was asked before is not paid twice."""
