from tests.support.breakable import breakable, new_animals, new_customers  # noqa: F401 (fixtures)
from tests.support.other_stack import other_stack  # noqa: F401 (a fixture)
