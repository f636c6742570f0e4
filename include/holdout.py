"""Which rows are set aside for the final test: decided by each row's key alone, once and for all."""

import hashlib

import numpy as np
import pandas as pd

from include.errors import ConfigurationError, InputError


def in_holdout(keys: pd.Series, share: float, salt: str) -> pd.Series:
    """Tell for each key whether its row is held out.

    The answer depends on a hash of the salt and the key only: not on the order, not on the other rows, not on the
    process (unlike Python's own ``hash``). Rows added later never move an old one, and a larger share only adds rows.

    Args:
        keys: whole numbers or strings, shape (n,); 7 and "7" are the same key.
        share: expected share of rows held out, 0 to 1.
        salt: any fixed text; another salt draws another sample.

    Returns:
        Booleans with the index of ``keys``, shape (n,).

    Raises:
        InputError: if a key is missing or neither a whole number nor a string.
        ConfigurationError: if the share is not between 0 and 1.

    """
    if not 0 <= share <= 1:
        raise ConfigurationError(f"The holdout's share is {share}; it must lie between 0 and 1.")
    if keys.isna().any():
        raise InputError(f"Column '{keys.name}': {int(keys.isna().sum())} keys are missing. Give every row a key.")
    kind = pd.api.types.infer_dtype(keys)
    if kind not in {"integer", "string", "empty"}:
        # 7.0 and 7 would be different keys, and a column turns into floats as soon as one value is missing
        raise InputError(f"Column '{keys.name}': keys are of kind {kind}. Convert them to whole numbers or strings.")
    salted = hashlib.sha256(salt.encode() + b"\0")
    digests = bytearray()
    for key in keys:
        digest = salted.copy()
        digest.update(str(key).encode())
        digests += digest.digest()[:8]
    # the upper 53 bits are what a float holds exactly: evenly spread over [0, 1), never 1 itself
    positions = (np.frombuffer(bytes(digests), dtype=">u8") >> np.uint64(11)) / 2.0**53
    return pd.Series(positions < share, index=keys.index, dtype=bool)
