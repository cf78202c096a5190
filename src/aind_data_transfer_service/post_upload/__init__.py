"""The steps after a verified upload: registration, and analysis in Code Ocean.

Both the transfer job and the service use this package. It does not know jobs or pages.
"""
