"""What the store promises, told once and held to on SQLite and PostgreSQL (a `store` fixture each).

`from store_stories import *` in a test module runs them all there.
"""

from store_stories.answers import *  # noqa: F403
from store_stories.corrections import *  # noqa: F403
from store_stories.doubts import *  # noqa: F403
from store_stories.review import *  # noqa: F403
from store_stories.runs import *  # noqa: F403
from store_stories.tables import *  # noqa: F403
from store_stories.versions import *  # noqa: F403
