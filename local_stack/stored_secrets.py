"""The passwords and keys of a local stack."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet


@dataclass(frozen=True)
class Secrets:
    """Made once at random and kept in a file that only the user can read."""

    s3_access_key: str
    s3_secret_key: str
    fernet_key: str
    webserver_secret_key: str
    airflow_password: str
    mlflow_password: str
    warehouse_password: str

    @classmethod
    def load_or_make(cls, file: Path) -> "Secrets":
        """Read the file, or write it with new secrets."""
        if not file.exists():
            values = {name: secrets.token_hex(20) for name in cls.__dataclass_fields__}
            values["fernet_key"] = Fernet.generate_key().decode()
            whole = file.with_suffix(".new")  # of a start that was killed nothing but this is left
            whole.touch(mode=0o600)
            whole.write_text(json.dumps(values, indent=1), encoding="utf-8")
            whole.rename(file)
        return cls(**json.loads(file.read_text(encoding="utf-8")))
