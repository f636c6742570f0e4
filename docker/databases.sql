-- Makes the warehouse's and MLflow's databases in the stack's PostgreSQL, each with a role that has rights only there.
-- Run with psql at every start, also on a volume that exists already: it adds what is missing and sets the passwords.
-- Names and passwords are those of .env, so that they are written down once; a database on another host is left alone.
\set warehouse `printenv AIRFLOW_CONN_POSTGRES_DEFAULT`
\set store `printenv MLFLOW_BACKEND_STORE_URI`
SET client_min_messages = warning;

CREATE TEMPORARY TABLE wanted AS
SELECT connection->>'login' AS login, connection->>'password' AS password, connection->>'schema' AS name
FROM (SELECT CASE WHEN :'warehouse' LIKE '{%' THEN :'warehouse' ELSE '{}' END::json AS connection) AS given
WHERE connection->>'host' = 'postgres'
UNION ALL
SELECT part[1], part[2], part[3]
FROM regexp_matches(:'store', '^postgresql(?:\+\w+)?://([^:/@]+):([^/@]+)@postgres(?::\d+)?/([^/?]+)') AS part;

-- never the superuser, who may be named in the connection
DELETE FROM wanted USING pg_roles WHERE rolname = login AND rolsuper;

SELECT DISTINCT format('CREATE ROLE %I', login) FROM wanted WHERE login NOT IN (SELECT rolname FROM pg_roles) \gexec
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', login, password) FROM wanted \gexec
SELECT format('CREATE DATABASE %I OWNER %I', name, login) FROM wanted
WHERE name NOT IN (SELECT datname FROM pg_database) \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', name) FROM wanted \gexec

-- every role may connect to every database until told otherwise: Airflow's own is for Airflow's superuser alone
REVOKE ALL ON DATABASE postgres FROM PUBLIC;
REVOKE ALL ON DATABASE template1 FROM PUBLIC;

SELECT format('database %s, owner %s', name, login) AS ready FROM wanted;
