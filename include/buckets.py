"""Amazon's operator that creates buckets, made idempotent. It is the first task to see a wrong connection or bucket name."""

from airflow.providers.amazon.aws.operators.s3 import S3CreateBucketOperator
from airflow.sdk import Context
from botocore.exceptions import ClientError

from include.client_errors import s3_code
from include.errors import ConfigurationError
from include.object_store import about_bucket, variable_of_bucket
from include.servers.s3 import set_up_clients
from include.task_errors import fail_at_once

MADE_MEANWHILE = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")  # the second also if it belongs to another account


class EnsureBucketOperator(S3CreateBucketOperator):
    """S3CreateBucketOperator that fails at once if the bucket can never be used."""

    @fail_at_once
    def execute(self, context: Context) -> None:  # noqa: ARG002
        """Make the bucket unless it is there."""
        set_up_clients()  # fails without a connection, where Amazon's hook would use AWS and this machine's credentials
        with about_bucket(self.bucket_name):
            self._ensure()

    def _ensure(self) -> None:
        # not super().execute: Airflow warns of one execute in another
        if self._is_there():
            self.log.info("Bucket %s is there already", self.bucket_name)
            return
        try:
            self.hook.create_bucket(bucket_name=self.bucket_name, region_name=self.region_name)
        except ClientError as error:
            if s3_code(error) == "AccessDenied":
                raise ConfigurationError(
                    f"the object store refuses: {error}: let the login of connection {self.aws_conn_id} use or make bucket "
                    f"{self.bucket_name}, or choose another one in {variable_of_bucket(self.bucket_name)}"
                ) from error
            if s3_code(error) not in MADE_MEANWHILE or not self._is_there():
                raise
        self.log.info("Bucket %s made", self.bucket_name)

    def _is_there(self) -> bool:
        """Whether the bucket exists and the login may use it."""
        try:
            self.hook.get_conn().head_bucket(Bucket=self.bucket_name)
        except ClientError as error:
            if s3_code(error) in ("403", "404"):
                return False
            raise
        return True
