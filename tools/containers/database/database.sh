#!/bin/sh
# Makes the cluster, the role `myelin` and its database at the first start, then becomes PostgreSQL.
set -eu
cluster=/var/lib/postgresql/15

if [ ! -d "$cluster" ]; then
    # It gets its name when it is complete: a first start that was broken off begins again.
    rm -rf "$cluster.new"
    initdb --pgdata="$cluster.new" --username=postgres --auth-local=peer --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C --data-checksums >/dev/null
    echo "host myelin myelin all scram-sha-256" >>"$cluster.new/pg_hba.conf"
    postgres --single -D "$cluster.new" postgres >/dev/null <<EOF
CREATE ROLE myelin LOGIN PASSWORD '$(cat /run/secrets/database/password)';
CREATE DATABASE myelin OWNER myelin;
EOF
    mv "$cluster.new" "$cluster"
    echo "database: made the cluster and the database"
fi
exec postgres -D "$cluster" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql
