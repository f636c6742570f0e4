"""The datasets that link the DAGs. Their names are those of the tutorial; what they refer to travels in their events."""

from airflow.datasets import Dataset

from include.settings import settings

POSSUM_FEATURES = Dataset(f"s3://{settings.data_bucket_name}_{settings.possum.file_path}")
DRIFT_DETECTED = Dataset("drift_detected")
MODEL_TRAINED = Dataset("model_trained")
