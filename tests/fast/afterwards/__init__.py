"""What follows a verified upload."""
