"""The stack without Docker: PostgreSQL, an S3 server, MLflow and Airflow as processes on loopback, run by supervisord."""
