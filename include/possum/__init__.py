"""The possum pipeline's pure functions: no Airflow, no MLflow, no network."""
