"""Amazon's operator that makes buckets, made to fail at once where the object store does not accept the login."""

from airflow.providers.amazon.aws.operators.s3 import S3CreateBucketOperator
from airflow.utils.context import Context

from include.object_store import require_connection
from include.task_errors import fail_at_once


class EnsureBucketOperator(S3CreateBucketOperator):
    """S3CreateBucketOperator, the first task of a DAG and so the first to see that a connection is wrong."""

    @fail_at_once
    def execute(self, context: Context) -> None:  # noqa: ARG002
        """Make the bucket unless it is there."""
        require_connection()
        # not super().execute: Airflow 2.11 warns of one execute in another
        if self.hook.check_for_bucket(self.bucket_name):
            self.log.info("Bucket %s is there already", self.bucket_name)
            return
        self.hook.create_bucket(bucket_name=self.bucket_name, region_name=self.region_name)
        self.log.info("Bucket %s made", self.bucket_name)
