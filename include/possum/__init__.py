"""The possum pipeline: what its tasks do. No Airflow and no MLflow in schema, features, model and plots, which are pure."""
