"""The only importer of psycopg: pool, COPY writer, named queries, migrations, embedded PostgreSQL."""
