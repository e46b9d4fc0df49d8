#!/bin/sh
# Makes what the compose file needs and what must not stand in it: a certificate authority, a certificate for each
# organisation's server, the databases' passwords, the secret of TURN. What is there stays as it is, but for certificates that end
# within 30 days or are for another name. The authority's key is in a volume of its own, which only this script sees.
set -eu
umask 077

authority=/authority
secrets=/secrets
# Users of the other images.
myelin=8008 postgres=5432 turn=3478

say() { echo "setup: $*"; }

# Writes standard input to a file in one piece, owned by who reads it.
put() { # FILE OWNER
    cat >"$1.new"
    chmod 0400 "$1.new"
    chown "$2:$2" "$1.new"
    mv "$1.new" "$1"
}

folder() { # FOLDER OWNER
    mkdir -p "$1"
    chown "$2:$2" "$1"
}

make_authority() {
    [ ! -s "$authority/ca.crt" ] || return 0
    say "makes a certificate authority"
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$authority/ca.key"
    cat >/tmp/ca.cnf <<EOF
[req]
prompt = no
distinguished_name = name
x509_extensions = authority
[name]
CN = Myelin compose authority
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
EOF
    openssl req -new -x509 -config /tmp/ca.cnf -key "$authority/ca.key" -days 3650 -out "$authority/ca.crt.new"
    mv "$authority/ca.crt.new" "$authority/ca.crt"
}

# Whether a certificate is there, goes on for 30 days, is for that name and by this authority.
holds() { # FILE NAME
    [ -s "$1" ] \
        && openssl x509 -in "$1" -noout -checkend 2592000 >/dev/null \
        && openssl verify -CAfile "$authority/ca.crt" -verify_hostname "$2" "$1" >/dev/null 2>&1
}

# The key stays the same over the years, so certificate and key fit at each moment.
make_certificate() { # FOLDER OWNER NAME
    ! holds "$1/tls.crt" "$3" || return 0
    say "makes a certificate for $3"
    [ -s "$1/tls.key" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | put "$1/tls.key" "$2"
    cat >/tmp/leaf.cnf <<EOF
[req]
prompt = no
distinguished_name = name
[name]
CN = $3
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:$3
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
EOF
    openssl req -new -config /tmp/leaf.cnf -key "$1/tls.key" -out /tmp/leaf.csr
    openssl x509 -req -in /tmp/leaf.csr -CA "$authority/ca.crt" -CAkey "$authority/ca.key" -days 397 \
        -set_serial "0x1$(openssl rand -hex 16)" -extfile /tmp/leaf.cnf -extensions leaf -out /tmp/leaf.crt 2>/tmp/log \
        || { cat /tmp/log >&2; exit 1; }
    put "$1/tls.crt" "$2" </tmp/leaf.crt
    put "$1/ca.crt" "$2" <"$authority/ca.crt"
}

make_organisation() { # FOLDER NAME
    folder "$secrets/$1/myelin" $myelin
    folder "$secrets/$1/database" $postgres
    if [ ! -s "$secrets/$1/database/password" ]; then
        say "makes the password of $1's database"
        openssl rand -hex 32 | tr -d '\n' | put "$secrets/$1/database/password" $postgres
    fi
    put "$secrets/$1/myelin/myelin.toml" $myelin <<EOF
# Made by setup at each start. All other settings are variables in the compose file.
[database]
url = "postgres://myelin:$(cat "$secrets/$1/database/password")@$1-database/myelin"
[turn]
shared_secret = "$(cat "$secrets/turn/turn/secret")"
EOF
    make_certificate "$secrets/$1/myelin" $myelin "$2"
}

make_turn() {
    folder "$secrets/turn/turn" $turn
    if [ ! -s "$secrets/turn/turn/secret" ]; then
        say "makes the secret of TURN"
        openssl rand -hex 32 | put "$secrets/turn/turn/secret" $turn
    fi
    put "$secrets/turn/turn/turnserver.conf" $turn <<EOF
# Made by setup at each start.
listening-port=3478
min-port=49160
max-port=49199
realm=$TURN_NAME
use-auth-secret
static-auth-secret=$(cat "$secrets/turn/turn/secret")
fingerprint
no-cli
no-multicast-peers
no-tls
no-dtls
userdb=/tmp/turndb
pidfile=/tmp/turnserver.pid
log-file=stdout
simple-log
# People may talk to whom they like, but not through this server to machines near it: only to its own relays.
allowed-peer-ip=198.18.213.100
denied-peer-ip=0.0.0.0-0.255.255.255
denied-peer-ip=10.0.0.0-10.255.255.255
denied-peer-ip=100.64.0.0-100.127.255.255
denied-peer-ip=127.0.0.0-127.255.255.255
denied-peer-ip=169.254.0.0-169.254.255.255
denied-peer-ip=172.16.0.0-172.31.255.255
denied-peer-ip=192.168.0.0-192.168.255.255
denied-peer-ip=198.18.0.0-198.19.255.255
denied-peer-ip=::1
denied-peer-ip=fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
denied-peer-ip=fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff
EOF
}

make_authority
make_turn
make_organisation one "$ONE_NAME"
make_organisation two "$TWO_NAME"
say "done"
