"""Names of files are UTF-8, whatever the locale says."""

import os
import sys


def ensure_utf8() -> None:
    """Start this program again in Python's UTF-8 mode, unless names are decoded as UTF-8 already.

    Python decodes names of files, arguments and variables by the locale, and cannot change that
    once it runs. The process keeps its id, its standard streams and its arguments, byte for byte.
    Where the variable has no effect (`python -X utf8=0`), the program goes on, and sends no files.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    if not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
