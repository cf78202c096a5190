"""How the documentation is built: Sphinx with autodoc, nothing fetched from anywhere."""

# Autodoc imports with TYPE_CHECKING set, which FastAPI does not survive: load it beforehand.
import aind_data_transfer_service.server  # noqa: F401
from aind_data_transfer_service import __version__

project = "aind-data-transfer-service"
author = "The aind-data-transfer-service developers"
copyright = f"2024, {author}"
release = __version__
version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
napoleon_google_docstring = False
napoleon_use_ivar = True
autodoc_default_options = {"ignore-module-all": True, "show-inheritance": True}
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# Migrations are run by Alembic, not imported.
exclude_patterns = ["aind_data_transfer_service.jobs.store.migrations*"]
suppress_warnings = ["toc.excluded", "ref.python", "ref.ref"]

html_theme = "furo"
html_title = "aind-data-transfer-service"
html_static_path = ["_static"]
