"""The sources of metadata, and the assembly of the documents."""
