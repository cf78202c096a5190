"""What a user asks for: job models, the reading of spreadsheets, the template."""
