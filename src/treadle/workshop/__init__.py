"""The composition root: settings → services → loops; plan and apply; replay. The only room that knows all the others."""

from treadle.workshop.home import Workshop, home_path, open_home

__all__ = ["Workshop", "home_path", "open_home"]
