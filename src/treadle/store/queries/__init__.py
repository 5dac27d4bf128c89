"""Named queries, one module a room: the whole contract with the database, readable in one sitting."""
