-- Makes the warehouse's and MLflow's databases in the stack's PostgreSQL, each with a role that has rights only there.
-- Run with psql at every start, also on a volume that exists already: it adds what is missing and sets the passwords.
-- Names and passwords are those of .env, so that they are written down once; a database on another host is left alone.
\set warehouse `printenv AIRFLOW_CONN_POSTGRES_DEFAULT`
\set store `printenv MLFLOW_BACKEND_STORE_URI`
\set tables `printenv CHURN_WAREHOUSE_SCHEMA || echo tmp_astro`
SET client_min_messages = warning;

CREATE TEMPORARY TABLE wanted AS
SELECT 'warehouse' AS use, connection->>'login' AS login, connection->>'password' AS password, connection->>'schema' AS name
FROM (SELECT CASE WHEN :'warehouse' LIKE '{%' THEN :'warehouse' ELSE '{}' END::json AS connection) AS given
WHERE connection->>'host' = 'postgres'
UNION ALL
SELECT 'store', part[1], part[2], part[3]
FROM regexp_matches(:'store', '^postgresql(?:\+\w+)?://([^:/@]+):([^/@]+)@postgres(?::\d+)?/([^/?]+)') AS part;

-- never the superuser, who may be named in the connection
DELETE FROM wanted USING pg_roles WHERE rolname = login AND rolsuper;

SELECT DISTINCT format('CREATE ROLE %I', login) FROM wanted WHERE login NOT IN (SELECT rolname FROM pg_roles) \gexec
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', login, password) FROM wanted \gexec
SELECT DISTINCT format('CREATE DATABASE %I', name) FROM wanted
WHERE name NOT IN (SELECT datname FROM pg_database) \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', name) FROM wanted \gexec

-- every role may connect to every database until told otherwise: Airflow's own is for Airflow's superuser alone
REVOKE ALL ON DATABASE postgres FROM PUBLIC;
REVOKE ALL ON DATABASE template1 FROM PUBLIC;

-- MLflow makes and changes its tables itself: its database is its own. The warehouse's belongs to the superuser, in older
-- volumes too; its role owns the schema of the tables, and nothing else.
SELECT format('ALTER DATABASE %I OWNER TO %I', name, CASE use WHEN 'store' THEN login ELSE current_user END)
FROM wanted ORDER BY use DESC \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM %I', name, login) FROM wanted WHERE use = 'warehouse' \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', name, login) FROM wanted WHERE use = 'warehouse' \gexec
SELECT format('database %s for %s', name, login) AS ready FROM wanted;
SELECT count(*) = 1 AS here, max(name) AS database, max(login) AS role FROM wanted WHERE use = 'warehouse' \gset
\if :here
  \connect :database
  SET client_min_messages = warning;
  CREATE SCHEMA IF NOT EXISTS :"tables";
  ALTER SCHEMA :"tables" OWNER TO :"role";
  -- until PostgreSQL 15 every role may make tables there
  REVOKE ALL ON SCHEMA public FROM PUBLIC;
\endif
