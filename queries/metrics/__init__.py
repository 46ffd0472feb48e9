"""Figures per hour or day, workspace, agent and model, counted from the views whenever somebody asks."""
