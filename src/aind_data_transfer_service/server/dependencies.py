"""The routes, a module for each thing that one can ask for."""

from typing import Annotated

from fastapi import Depends, Request

from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.server.metrics import Metrics
from aind_data_transfer_service.settings.service import ServiceSettings


def the_manager(request: Request) -> JobManager:
    """Give a route the keeper of the jobs."""
    manager: JobManager = request.app.state.manager
    return manager


def the_metrics(request: Request) -> Metrics:
    """Give a route the figures of the service."""
    metrics: Metrics = request.app.state.metrics
    return metrics


def the_settings(request: Request) -> ServiceSettings:
    """Give a route the settings of the service."""
    settings: ServiceSettings = request.app.state.settings
    return settings


Manager = Annotated[JobManager, Depends(the_manager)]
Figures = Annotated[Metrics, Depends(the_metrics)]
Settings = Annotated[ServiceSettings, Depends(the_settings)]
