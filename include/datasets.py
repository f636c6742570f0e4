"""The datasets that link the DAGs. Their names are those of the tutorial; what they refer to travels in their events."""

from airflow.sdk import Asset

from include.settings import settings

POSSUM_FEATURES = Asset(f"s3://{settings.data_bucket_name}_{settings.possum.file_path}")
DRIFT_DETECTED = Asset("drift_detected")
MODEL_TRAINED = Asset("model_trained")
