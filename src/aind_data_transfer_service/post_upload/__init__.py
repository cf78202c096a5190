"""What follows a verified upload: it is registered, and analysed. Used by job and service alike."""
