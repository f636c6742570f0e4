"""The assets (datasets before Airflow 3) that link the DAGs, named as in the tutorial; their events carry references."""

from airflow.sdk import Asset

from include.settings import settings

POSSUM_FEATURES = Asset(f"s3://{settings.data_bucket_name}_{settings.possum.file_path}")
DRIFT_DETECTED = Asset("drift_detected")
MODEL_TRAINED = Asset("model_trained")
