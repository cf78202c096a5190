"""From a spreadsheet to a verified, described recording session in the cloud."""

__version__ = "0.1.0"
