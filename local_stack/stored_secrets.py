"""The passwords and keys of a local stack."""

import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet


@dataclass(frozen=True)
class Secrets:
    """Made once at random and kept in a file that only the user can read."""

    s3_access_key: str
    s3_secret_key: str
    fernet_key: str
    airflow_secret_key: str  # signs the tokens of users and tasks, and what else Airflow signs
    login_password: str  # of Airflow's UI and REST API and of the view of the objects
    airflow_password: str
    mlflow_password: str
    warehouse_password: str

    @classmethod
    def load_or_make(cls, file: Path) -> "Secrets":
        """Read the file, or write it with new secrets."""
        if not file.exists():
            values = {name: secrets.token_hex(20) for name in cls.__dataclass_fields__}
            values["fernet_key"] = Fernet.generate_key().decode()
            values["airflow_secret_key"] = secrets.token_hex(32)  # 64 bytes, as many as HS512 wants
            values["login_password"] = secrets.token_urlsafe(12)  # people type it
            whole = file.with_suffix(".new")  # of a start that was killed nothing but this is left
            whole.touch(mode=0o600)
            whole.write_text(json.dumps(values, indent=1), encoding="utf-8")
            whole.rename(file)
        values = json.loads(file.read_text(encoding="utf-8"))
        if values.keys() != cls.__dataclass_fields__.keys():
            sys.exit(
                f"error: {file.parent} holds the stack of another version of this project: make clean removes it with all "
                "that it has stored, or set LOCAL_STACK_DIR to another folder"
            )
        return cls(**values)
