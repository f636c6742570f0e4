"""The churn pipeline's pure functions: no Airflow, no Weights & Biases, no network."""
