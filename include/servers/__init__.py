"""The servers behind the Airflow connections: one description of each, used to configure every part of a pipeline.

Amazon's hook, s3fs, MLflow's client, SQLAlchemy and the MLflow server of the Astro stack each look at different parts of a
connection. Here it is read once, for all of them. A form that they would read differently is refused with the reason, so that
no part connects to a different server than the others, or without TLS or a login.

Only the standard library is imported: docker/with-aws-connection.py uses this package in MLflow's image, which has no Airflow.
"""
