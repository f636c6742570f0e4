from tests.support.other_stack import other_stack  # noqa: F401 (a fixture)
