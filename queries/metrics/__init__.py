"""Answers how much agents did: metrics per hour or day, workspace, agent and model."""
