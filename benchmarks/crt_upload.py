"""Upload a folder with the AWS Common Runtime (CRT), as `aws s3 cp` of AWS CLI 2 does.

AWS CLI 1, the one on PyPI, has no CRT transfer client, and that of boto3 takes neither plain HTTP
nor another CA. AWS CLI 2 and boto3 use the transfer manager in `s3transfer.crt` that is called
here, with its defaults but for 64 requests at once. Keys, endpoint and trusted certificates come
from the `AWS_` variables. Run by `transfer.py` with a Python that has boto3 and awscrt::

    python benchmarks/crt_upload.py FOLDER BUCKET PREFIX
"""

import os
import sys

from botocore.session import Session
from floor import files_of
from s3transfer.crt import (
    BotocoreCRTCredentialsWrapper,
    BotocoreCRTRequestSerializer,
    CRTTransferManager,
    create_s3_crt_client,
)
from s3transfer.manager import TransferConfig

REQUESTS = 64


def main(folder: str, bucket: str, prefix: str) -> None:
    """Upload all files, the largest first.

    Parameters
    ----------
    folder : str
        The folder to upload.
    bucket : str
        The destination bucket.
    prefix : str
        The prefix of all keys, without a slash at its end.
    """
    session, endpoint = Session(), os.environ["AWS_ENDPOINT_URL"]
    region = session.get_config_variable("region")
    credentials = BotocoreCRTCredentialsWrapper(session.get_credentials())
    client = create_s3_crt_client(
        region,
        credentials.to_crt_credentials_provider(),
        use_ssl=endpoint.startswith("https:"),
        verify=os.environ.get("AWS_CA_BUNDLE"),
    )
    where = {"region_name": region, "endpoint_url": endpoint}
    serializer = BotocoreCRTRequestSerializer(session, where)
    config = TransferConfig(max_request_concurrency=REQUESTS)
    with CRTTransferManager(client, serializer, config=config) as manager:
        for future in [
            manager.upload(path, bucket, f"{prefix}/{os.path.relpath(path, folder)}")
            for path, _ in files_of(folder)
        ]:
            future.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
