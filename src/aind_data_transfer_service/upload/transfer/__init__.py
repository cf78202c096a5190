"""The transfer engine."""
