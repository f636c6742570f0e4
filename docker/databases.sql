-- Makes the warehouse's and MLflow's databases in the stack's PostgreSQL, each with a role that has rights only there.
-- Run with psql at every start, also on a volume that exists already: it adds what is missing and sets the passwords.
-- Names and passwords are those of .env, so that they are written down once; a database on another host is left alone.
-- What of them cannot be read ends it with the reason; the stack then does not start.
\set id `echo "${POSTGRES_CONN_ID:-postgres_default}" | tr a-z A-Z`
\set warehouse `printenv "AIRFLOW_CONN_$(echo "${POSTGRES_CONN_ID:-postgres_default}" | tr a-z A-Z)"`
\set store `printenv MLFLOW_BACKEND_STORE_URI`
\set tables `printenv CHURN_WAREHOUSE_SCHEMA || echo tmp_astro`
-- no text of a statement in an error: it may hold a password
\set VERBOSITY terse
SET client_min_messages = warning;

-- A connection's parts from its JSON, or from a URI with percent signs; NULL where it is neither
CREATE FUNCTION pg_temp.decoded(text) RETURNS text LANGUAGE sql AS $$
SELECT convert_from(string_agg(
    CASE WHEN part[1] ~ '^%[0-9A-Fa-f]{2}$' THEN decode(substr(part[1], 2), 'hex') ELSE convert_to(part[1], 'UTF8') END,
    '' ORDER BY number), 'UTF8')
FROM regexp_matches($1, '%[0-9A-Fa-f]{2}|.', 'g') WITH ORDINALITY AS found(part, number)
$$;
CREATE FUNCTION pg_temp.parts(connection text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    uri text[] := regexp_match(connection,
        '^postgres(?:ql)?(?:\+\w+)?://(?:([^:/@?]*)(?::([^/@?]*))?@)?(\[[^]]*\]|[^:/@?]*)(?::\d+)?(?:/([^?]*))?(?:\?.*)?$');
BEGIN
    IF connection LIKE '{%' THEN
        RETURN connection::json;
    END IF;
    RETURN CASE WHEN uri IS NOT NULL THEN json_build_object('login', pg_temp.decoded(uri[1]),
        'password', pg_temp.decoded(uri[2]), 'host', pg_temp.decoded(uri[3]), 'schema', pg_temp.decoded(uri[4])) END;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN NULL;
END $$;
CREATE TEMPORARY TABLE wanted AS
SELECT use, variable, parts, parts->>'login' AS login, parts->>'password' AS password, parts->>'schema' AS name
FROM (VALUES ('warehouse', 'AIRFLOW_CONN_' || :'id', :'warehouse'), ('store', 'MLFLOW_BACKEND_STORE_URI', :'store'))
    AS given (use, variable, connection), pg_temp.parts(connection) AS parts
WHERE connection <> '' AND (use = 'warehouse' OR connection LIKE 'postgres%');

DO $$
DECLARE
    variable text;
    reason text;
BEGIN
    SELECT wanted.variable, CASE
        WHEN parts IS NULL THEN 'is neither JSON nor a URI that begins with postgresql://'
        WHEN parts->>'host' ~ '^\s*postgres\s*:' THEN 'names a port in its host'
        WHEN parts->>'host' = 'postgres' AND (coalesce(login, '') = '' OR coalesce(password, '') = '' OR coalesce(name, '') = '')
            THEN 'lacks login, password or database'
        END INTO variable, reason FROM wanted ORDER BY 2 LIMIT 1;
    IF reason IS NOT NULL THEN
        RAISE EXCEPTION '% %: write it as .env_example has it', variable, reason;
    END IF;
END $$;
DELETE FROM wanted WHERE parts->>'host' IS DISTINCT FROM 'postgres';

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
