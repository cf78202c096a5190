"""Which transform a modality has, of those that are installed."""

from collections.abc import Mapping
from typing import Any

from aind_data_transfer_service.errors import PluginError
from aind_data_transfer_service.plugins import TRANSFORMS
from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.plugin_settings import settings_of
from aind_data_transfer_service.upload.plan.items import FileItems, links_of
from aind_data_transfer_service.upload.source import sample
from aind_data_transfer_service.upload.source.sample import Sample
from aind_data_transfer_service.upload.source.scan import Scan
from aind_data_transfer_service.upload.transforms.base import Planned, Transform, TransformRequest

AS_IT_IS, USUAL = "uncompressed", "zip"
"""The transforms of data that are not to be compressed, and of those without one of their own."""


def plan_modality(
    scan: Scan,
    modality: str,
    compress: bool,
    listed_links: Sample[dict[str, str]],
    extra_configs: Mapping[str, Any] | str | None = None,
    settings: EnvironmentSettings | None = None,
) -> tuple[type[Transform], Planned]:
    """Decide what is sent for a modality.

    Parameters
    ----------
    scan : Scan
        What its source holds.
    modality : str
        The abbreviation of the modality.
    compress : bool
        Whether the data are to be compressed.
    listed_links : Sample[dict[str, str]]
        Receives the links in the source if its files become other objects. All of them have to be
        listed, because the manifest has no line for such a file.
    extra_configs : Mapping, str or None
        What the request says about this modality.
    settings : EnvironmentSettings | None
        The settings of all transforms.

    Returns
    -------
    tuple[type[Transform], Planned]
        The transform, and what it plans.

    Raises
    ------
    PluginError
        If several installed transforms are for this modality.
    """
    own = own_transform(modality) if compress else None
    usual = [TRANSFORMS.get(name) for name in ([USUAL] if compress else []) + [AS_IT_IS]]
    for transform in [*([own] if own else []), *usual]:
        known = settings_of(settings, transform.name) if settings else None
        planned = transform.plan(TransformRequest(modality, scan, extra_configs, known))
        if planned is None:
            continue
        if isinstance(planned.items, FileItems):
            return transform, planned
        links = Sample(links_of(scan))
        if listed_links.has_room_for(links):
            listed_links.add(links)
            return transform, planned
        what = "a zip" if transform.name == USUAL else f"the transform {transform.name}"
        problem = _links_problem(links, listed_links, what)
        warning = f"{scan.tree.folder}: {problem}; they travel as they are"
        return TRANSFORMS.get(AS_IT_IS), Planned(FileItems(scan.files), (warning,))
    raise PluginError(f"no installed transform can send {scan.tree.folder} ({modality})")


def _links_problem(
    links: Sample[dict[str, str]], listed_links: Sample[dict[str, str]], what: str
) -> str:
    """Return the message that the manifest has no room for the links of a source."""
    room = f"the manifest has room for {sample.MOST_BYTES:,} bytes of paths and targets"
    if links.others or not listed_links.total:
        return f"{links.total:,} links are too many for {what}: {room}"
    total = links.total + listed_links.total
    return (
        f"{links.total:,} links are too many for {what} beside the {listed_links.total:,} in zips "
        f"of other sources of this job, {total:,} in all: {room}, which those have used in part"
    )


def own_transform(modality: str) -> type[Transform] | None:
    """Return the transform that is for a modality; None if the modality has the usual one.

    Raises
    ------
    PluginError
        If several are.
    """
    found = [one for one in TRANSFORMS.plugins.values() if modality in one.modalities]
    if len(found) > 1:
        raise PluginError("; ".join(repeated_modalities()))
    return found[0] if found else None


def repeated_modalities() -> list[str]:
    """Return the modalities that several installed transforms are for, a sentence each."""
    names: dict[str, list[str]] = {}
    for name, plugin in sorted(TRANSFORMS.plugins.items()):
        for modality in plugin.modalities:
            names.setdefault(modality, []).append(f"{name} ({plugin.__module__})")
    return [
        f"several transforms are for the modality {modality}: {', '.join(those)}; "
        "uninstall all but one"
        for modality, those in sorted(names.items())
        if len(those) > 1
    ]
