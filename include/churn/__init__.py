"""The churn pipeline.

Pure functions, without Airflow, W&B or network: schema, features, model, training_rows, plots, model_card, generate. What
tasks do with them, in the warehouse, the object store and W&B: load, tracking, model_folder, champion, records, warehouse.
"""
