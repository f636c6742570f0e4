from tests.support.breakable import breakable, new_animals, new_customers  # noqa: F401 (fixtures)
