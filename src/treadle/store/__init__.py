"""The only SQL and the only drivers: tables, the database, blobs, named queries per room, migrations."""
