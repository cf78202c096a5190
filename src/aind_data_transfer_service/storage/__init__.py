"""Where assets are stored: a local folder or an S3 bucket."""
