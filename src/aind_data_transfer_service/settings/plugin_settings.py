"""The settings of plug-ins, as a group within the settings of the service and of its jobs.

A field of such a group is annotated with `OfPlugins`, and holds the settings of each plug-in under
the plug-in's name. So they are read, checked, listed and kept secret as all others are.
"""

from functools import cached_property
from typing import Any

from pydantic import Field, SecretStr, create_model

from aind_data_transfer_service.plugins import OF_JOBS, REGISTRIES, Registry
from aind_data_transfer_service.settings.base import EnvironmentSettings, PluginGroup


class OfPlugins(PluginGroup):
    """Makes the class of a group: a field for each plug-in that has settings.

    Parameters
    ----------
    registry : Registry
        The plug-ins. They are imported when the class is first needed.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @cached_property
    def model(self) -> type[EnvironmentSettings]:
        """The class of the group."""
        fields: dict[str, Any] = {
            field_of(name): (model, Field(default_factory=model))
            for name, model in settings_classes(self._registry).items()
        }
        title = "".join(part.title() for part in self._registry.kind.split())
        return create_model(f"{title}PluginSettings", __base__=EnvironmentSettings, **fields)

    def __call__(self) -> EnvironmentSettings:
        """Read the settings of all plug-ins of the group."""
        return self.model()


def settings_classes(registry: Registry) -> dict[str, type[EnvironmentSettings]]:
    """Return the class of the settings of each plug-in that has any, by the plug-in's name."""
    found = {name: plugin.settings for name, plugin in registry.plugins.items()}
    return {name: model for name, model in found.items() if model is not None}


def settings_of(group: EnvironmentSettings, name: str) -> EnvironmentSettings | None:
    """Return the settings of one plug-in, None if it has none.

    Parameters
    ----------
    group : EnvironmentSettings
        The settings of all plug-ins of its kind.
    name : str
        The name of the plug-in.
    """
    return getattr(group, field_of(name), None)


def environment_of(group: EnvironmentSettings) -> dict[str, str]:
    """Write out the settings of plug-ins for a job's environment, secrets included.

    Those of plug-ins that are not configured are left out.
    """
    found: dict[str, str] = {}
    for name in type(group).model_fields:
        settings = getattr(group, name)
        if settings.is_set:
            found |= settings.environment()
    return found


def field_of(name: str) -> str:
    """Return the name of the field that has the settings of a plug-in."""
    return f"plugin_{name.replace('-', '_')}"


def job_settings() -> tuple[type[EnvironmentSettings], ...]:
    """Return the classes of the settings of the plug-ins that jobs use."""
    return tuple(model for kind in OF_JOBS for model in settings_classes(kind).values())


def prefixes() -> tuple[str, ...]:
    """Return how the variables of all plug-ins begin."""
    return tuple(model.prefix for kind in REGISTRIES for model in settings_classes(kind).values())


def secrets_in(settings: EnvironmentSettings) -> list[str]:
    """Return the secrets in settings and in their groups."""
    found = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            found.append(value.get_secret_value())
        elif isinstance(value, EnvironmentSettings):
            found += secrets_in(value)
    return found


def plugin_problems() -> tuple[list[str], list[str]]:
    """Return what is wrong with plug-ins: what keeps the service from starting, and warnings."""
    errors, warnings = [], []
    for registry in REGISTRIES:
        errors += registry.errors()
        warnings += registry.warnings()
    return errors, warnings
