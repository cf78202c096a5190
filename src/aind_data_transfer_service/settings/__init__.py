"""Every environment variable, once.

`service.ServiceSettings` is what the web service reads, with parts about the cluster (`slurm`),
about further accounts of S3 (`s3_accounts`) and about telling people (`notifications`);
`upload.UploadSettings` is what a data transfer job reads, and the classes in `metadata_sources`
what it has to know of the systems that metadata come from; `metadata.MetadataSettings` says which
of them is asked for what, and `post_upload.PostUploadSettings` who hears of a verified asset. Each
is read once, at start-up, and passed on. With no variable set, everything happens on this machine
beneath `DATA_DIR`: jobs run as local processes and assets arrive in a local folder, in the layout
of a bucket.
"""
