# The first line is what the Astro CLI reads the version from. The image's own ONBUILD steps run here: they install
# packages.txt, then requirements.txt, each a layer that stays until that file changes, and copy the project last.
FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12 AS project

# Wheels that the image carries along. A stage of its own, so that a changed DAG does not download them again: whatever
# follows the copy of the project above is done anew after each change, and is kept cheap.
FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12-base AS wheels
USER root
COPY requirements.txt docker/without-dependencies.txt docker/model-wheels.txt /tmp/
# --only-binary: nothing is compiled, neither here nor when run_prediction installs from this folder
RUN pip download --no-cache-dir --progress-bar off --only-binary :all: --dest /usr/local/share/wheels \
      --constraint /tmp/requirements.txt --requirement /tmp/model-wheels.txt \
 && pip download --no-cache-dir --progress-bar off --only-binary :all: --dest /usr/local/share/wheels \
      --no-deps --requirement /tmp/without-dependencies.txt \
 && chmod -R a+rX /usr/local/share/wheels

FROM project
# uv, which builds the environment of run_prediction, finds the model's packages in UV_FIND_LINKS without a network. Its
# cache and the environments lie in one filesystem, so that uv links files instead of copying them.
# git is not in the image, and MLflow does not need it: GIT_PYTHON_REFRESH spares each task's log the warning.
# All of Airflow's processes import from include/: the project's folder is on their path, whatever the image has there.
ENV PYTHONPATH=/usr/local/airflow${PYTHONPATH:+:$PYTHONPATH} \
    UV_FIND_LINKS=/usr/local/share/wheels \
    UV_CACHE_DIR=/home/astro/.cache/uv \
    PREDICTION_VENV_CACHE=/home/astro/.cache/prediction-venvs \
    UV_PYTHON_DOWNLOADS=never \
    UV_NO_PROGRESS=1 \
    GIT_PYTHON_REFRESH=quiet
# Who watches a task's process: include/task_process.py, for tasks of the queue `default`, which is every task that names none.
# Here and not in .env, because without it LocalExecutor copies what tasks log, with secrets unmasked, to the scheduler's output.
# An api-server on a busy machine may take longer than the 5 s that a task gives it by default. The Astro CLI signs tokens with the
# project's name, of which PyJWT says at each call that it is short, and nobody logs in with one there.
ENV AIRFLOW__SDK__COORDINATORS='{"task_process":{"classpath":"include.task_process.TaskCoordinator"}}' \
    AIRFLOW__SDK__QUEUE_TO_COORDINATOR='{"default":"task_process"}' \
    AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT=30 \
    PYTHONWARNINGS="ignore:The HMAC key is"
# What would be said in each task's log and tells its reader nothing: include/task_logs.py
ENV AIRFLOW__LOGGING__NAMESPACE_LEVELS="airflow.providers.amazon.aws.utils.connection_wrapper=WARNING \
      airflow.task.hooks.airflow.providers=WARNING \
      airflow.task.hooks.include.mlflow_api=WARNING \
      airflow.task.operators.airflow.providers.standard.decorators=WARNING \
      airflow.task.operators.astro=WARNING \
      airflow.task.operators.include.venv_prediction=WARNING \
      airflow.task.operators.mlflow_provider=WARNING"
USER root
COPY --from=wheels /usr/local/share/wheels /usr/local/share/wheels
# Two packages declare what does not fit to Airflow 3 or what this project replaces (docker/without-dependencies.txt); their
# other dependencies are in requirements.txt. The folder is a volume of docker-compose.override.yml, which takes over its owner.
RUN pip install --no-cache-dir --root-user-action=ignore --no-index --find-links /usr/local/share/wheels \
      --no-deps --requirement docker/without-dependencies.txt \
 && install -d -o astro -g 0 -m 775 /usr/local/airflow/wandb /home/astro/.cache "$UV_CACHE_DIR" "$PREDICTION_VENV_CACHE"
USER astro
