"""How the documentation is built: Sphinx with autodoc, nothing fetched from anywhere."""

from aind_data_transfer_service import __version__

project = "aind-data-transfer-service"
author = "The aind-data-transfer-service developers"
copyright = f"2024, {author}"
release = __version__
version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
napoleon_google_docstring = False
autodoc_default_options = {"show-inheritance": True}
autodoc_typehints = "description"
autodoc_member_order = "bysource"
exclude_patterns = ["aind_data_transfer_service.jobs.migrations*"]  # run by Alembic, not imported
suppress_warnings = ["toc.excluded"]

html_theme = "furo"
html_title = "aind-data-transfer-service"
html_static_path = ["_static"]
