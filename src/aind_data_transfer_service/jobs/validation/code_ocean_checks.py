"""What is asked of Code Ocean before a job is accepted that wants a capsule to run.

What is amiss there is never more than a warning: the data are to travel all the same.
"""

from collections.abc import Callable, Mapping

from aind_data_transfer_service.concurrency.deadline_pool import Workers
from aind_data_transfer_service.errors import PostUploadError
from aind_data_transfer_service.post_upload.states import NO_BUCKET, NO_CODE_OCEAN
from aind_data_transfer_service.settings.service import ServiceSettings


def capsule_warnings(
    wanted: Mapping[str, str], settings: ServiceSettings, workers: Workers
) -> dict[str, str]:
    """Say what stands against an analysis.

    Parameters
    ----------
    wanted : Mapping[str, str]
        By the label of a job, the capsule or pipeline that it names.
    settings : ServiceSettings
        Whom to ask, and for how long.
    workers : Workers
        Who ask.
    """
    patience = settings.check_timeout
    answers = workers.ask(_question(settings), dict.fromkeys(wanted.values()), patience)
    warnings = {}
    for label, capsule_id in wanted.items():
        why = answers.get(capsule_id, "Code Ocean did not answer in time")
        if isinstance(why, Exception):
            why = f"the check itself failed ({type(why).__name__})"
        if why:
            warnings[label] = (
                f"{label}, process_capsule_id: nothing will run unless this is mended: {why}; the "
                "upload goes on, and the analysis can be tried again afterwards"
            )
    return warnings


def _question(settings: ServiceSettings) -> Callable[[str], str]:
    """Make the question about a capsule or pipeline: what is wrong with it, empty for nothing."""
    known = settings.post_upload
    in_bucket = settings.destination_root == "s3://"
    if not known.code_ocean_enabled:  # perhaps the jobs hear of it from the store of parameters
        problem = "" if settings.param_store_name else NO_CODE_OCEAN
        return lambda _: problem

    def ask(capsule_id: str) -> str:
        from aind_data_transfer_service.post_upload import code_ocean  # takes a while

        patience = code_ocean.Deadline(settings.check_timeout)
        try:
            with code_ocean.CodeOcean(known, patience) as asked:
                asked.check_access(capsule_id)
        except PostUploadError as error:
            return str(error)
        return ""

    return ask if in_bucket else lambda _: NO_BUCKET
