"""Plug-ins: the classes that packages register as entry points, and the four kinds of them.

A plug-in is a class that an installed package names in an entry point. Its `name` is the name of
the entry point, its `label` is what people read, and its `settings` is the class of its settings,
or None. What this project brings itself is registered in the same way, in `pyproject.toml`.

Installed packages are searched when a plug-in is first needed, and a plug-in is imported when its
registry is first asked for it: importing this module does neither.
"""

import importlib.metadata
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

from aind_data_transfer_service.errors import PluginError

logger = logging.getLogger(__name__)

_OWN_PACKAGE, _OWN_MODULES = "aind-data-transfer-service", "aind_data_transfer_service."
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_IN_COMMON = ("name", "label", "settings")
"""What every plug-in declares."""


@cache
def _installed() -> Any:
    """Search the installed packages, once: it takes about 10 ms. The type differs by Python."""
    return importlib.metadata.entry_points()


def _installed_in(group: str) -> Iterable[EntryPoint]:
    found: EntryPoints = _installed().select(group=group)
    return found


class Registry:
    """The plug-ins of one kind.

    Parameters
    ----------
    group : str
        The group of their entry points.
    kind : str
        What one of them is called in messages.
    declares : tuple of str
        The attributes that their classes have, besides those of every plug-in.
    find : Callable
        Returns the entry points of a group.
    """

    def __init__(
        self,
        group: str,
        kind: str,
        declares: tuple[str, ...],
        find: Callable[[str], Iterable[EntryPoint]] = _installed_in,
    ) -> None:
        self.group, self.kind = group, kind
        self.declares = declares
        """What the classes declare, besides what every plug-in does."""
        self._find = find

    @cached_property
    def _entries(self) -> tuple[EntryPoint, ...]:
        """The entry points, each once."""
        found = {(entry.name, entry.value): entry for entry in self._find(self.group)}
        return tuple(found[key] for key in sorted(found))

    @cached_property
    def _repeated_names(self) -> list[str]:
        """The names that several plug-ins have."""
        names = Counter(entry.name for entry in self._entries)
        return sorted(name for name, count in names.items() if count > 1)

    @cached_property
    def _loaded(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Import all plug-ins: the classes by name, and why others cannot be used, by name."""
        classes: dict[str, Any] = {}
        unusable: dict[str, str] = {}
        for entry in self._entries:
            if entry.name in self._repeated_names:
                unusable[entry.name] = self._repeated(entry.name)
                continue
            try:
                classes[entry.name] = self._load(entry)
            except PluginError as error:
                unusable[entry.name] = str(error)
        return classes, unusable

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all plug-ins, whether or not they can be used. Imports none."""
        return tuple(sorted({entry.name for entry in self._entries}))

    @property
    def plugins(self) -> Mapping[str, Any]:
        """The classes of the plug-ins that can be used, by name."""
        return self._loaded[0]

    @property
    def unusable(self) -> Mapping[str, str]:
        """Why a plug-in cannot be used, by its name."""
        return self._loaded[1]

    def get(self, name: str) -> Any:
        """Return the class of a plug-in.

        Raises
        ------
        PluginError
            If there is no such plug-in, or it cannot be used.
        """
        if name in self.plugins:
            return self.plugins[name]
        if name in self.unusable:
            raise PluginError(self.unusable[name])
        known = ", ".join(self.names)
        raise PluginError(
            f'no installed package has the {self.kind} "{name}"; installed: {known or "none"}'
        )

    def label(self, name: str) -> str:
        """Return what people call a plug-in."""
        plugin = self.plugins.get(name)
        return plugin.label if plugin is not None else name

    def errors(self) -> list[str]:
        """Return what has to be resolved: names that two plug-ins have, and a broken installation.

        Imports nothing.
        """
        found = [self._repeated(name) for name in self._repeated_names]
        if not any(entry.value.startswith(_OWN_MODULES) for entry in self._entries):
            found.append(
                f"the installation of {_OWN_PACKAGE} registers no {self.kind} of its own (entry "
                f"points {self.group}); install it again"
            )
        return found

    def warnings(self) -> list[str]:
        """Return why plug-ins cannot be used, but for what `errors` returns."""
        errors = self.errors()
        return [text for text in self.unusable.values() if text not in errors]

    def _repeated(self, name: str) -> str:
        """Say which packages have a plug-in of one name."""
        places = ", ".join(
            f"{_package(entry)} ({entry.value})" for entry in self._entries if entry.name == name
        )
        return f'several packages have the {self.kind} "{name}": {places}; uninstall all but one'

    def _load(self, entry: EntryPoint) -> Any:
        """Import a plug-in, and check what it declares."""
        try:
            plugin: Any = entry.load()
        except Exception as error:  # it is the code of others, which may fail in any way
            logger.debug("a plug-in cannot be imported", exc_info=True)
            reason = " ".join(str(error).split())
            problem = f"cannot be imported: {type(error).__name__}: {reason}"
            raise PluginError(f"{self._where(entry)}: {problem}") from error
        if problem := self._problem(plugin, entry.name):
            raise PluginError(f"{self._where(entry)}: {problem}")
        return plugin

    def _where(self, entry: EntryPoint) -> str:
        """Name a plug-in and its package, whose metadata are read from the disk for it."""
        return f"{self.kind} {entry.name} of {_package(entry)} (entry point {entry.value})"

    def _problem(self, plugin: Any, name: str) -> str:
        """Return what is wrong with what a plug-in declares; empty if nothing is."""
        missing = [one for one in (*_IN_COMMON, *self.declares) if not hasattr(plugin, one)]
        if not isinstance(plugin, type):
            return "it is not a class"
        if missing:
            return f"the class does not declare {', '.join(missing)}"
        settings: Any = getattr(plugin, "settings")
        if settings is not None and not getattr(settings, "prefix", ""):
            return "settings must be None or a class of EnvironmentSettings that has a prefix"
        if not _NAME.fullmatch(name):
            return (
                "its name must begin with a-z and have no other characters than a-z, 0-9, - and _"
            )
        declared = getattr(plugin, "name")
        if declared != name:
            return f'the class has the name "{declared}"; use the name of the entry point'
        return ""


def _package(entry: EntryPoint) -> str:
    """Return the name and version of the package that an entry point is of."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"


EXECUTORS = Registry("aind_data_transfer_service.executors", "executor", ("create",))
"""Where jobs run; see `executors.registry`."""
METADATA_SOURCES = Registry(
    "aind_data_transfer_service.metadata_sources", "metadata source", ("kinds", "rank", "create")
)
"""Where documents come from; see `metadata.registry`."""
TRANSFORMS = Registry(
    "aind_data_transfer_service.transforms",
    "transform",
    ("modalities", "takes_extra_configs", "plan"),
)
"""What is done to the data of a modality while they are sent; see `upload.transforms.registry`."""
NOTIFICATION_CHANNELS = Registry(
    "aind_data_transfer_service.notification_channels", "notification channel", ("create",)
)
"""How people hear of jobs; see `notifications.registry`."""

REGISTRIES = (EXECUTORS, METADATA_SOURCES, TRANSFORMS, NOTIFICATION_CHANNELS)
OF_JOBS = (METADATA_SOURCES, TRANSFORMS)
"""The kinds that data transfer jobs use. The others are used by the service alone."""
