"""SharePoint lists of surgery requests."""
