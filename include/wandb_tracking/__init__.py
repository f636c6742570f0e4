"""Everything this project says to Weights & Biases.

Made for Airflow tasks: each task is a process of its own, may be tried again, and must end. Hence

* online or offline is decided once, by the environment, and said in the log (``target``);
* a run has an id that the caller derives from the DAG run, so that a second try continues it instead of adding one (``runs``);
* everything that talks to a server is bounded in time, and no process of wandb's outlives the run;
* what wandb writes is stored in one folder per run and job, with the artifact's staged files, so that a run recorded offline
  can really be uploaded later (``workspace``);
* an error says whose fault it is: what the user must correct fails at once, what may pass is retried (``errors``);
* the key stays in the environment: nothing here reads it, except to log in and to blank it out of messages.

What the bounds amount to is measured in tests/integration/wandb.
"""
