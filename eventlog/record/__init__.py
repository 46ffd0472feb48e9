"""Recording: from a call in an agent to a line in the log, without ever hurting the agent."""
