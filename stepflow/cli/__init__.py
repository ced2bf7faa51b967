"""The command `stepflow`: one file a command. Commands print; what they print comes from elsewhere."""
