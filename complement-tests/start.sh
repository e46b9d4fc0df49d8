#!/bin/sh
# Starts Myelin in a container of Complement, which sets SERVER_NAME and puts a certificate authority into the container
# before each start. Runs again and again over the same data.
set -eu

data=/data
tls=$data/tls
mkdir -p "$tls"

# Anew at each start, since the authority may be another one. An elliptic curve costs milliseconds.
printf '[req]\ndistinguished_name = name\n[name]\n' >"$tls/request.cnf"
openssl req -x509 -config "$tls/request.cnf" -subj "/CN=$SERVER_NAME" -days 30 \
    -addext "subjectAltName=DNS:$SERVER_NAME" -addext basicConstraints=critical,CA:FALSE \
    -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$tls/key.pem" -out "$tls/certificate.pem" \
    -CA /complement/ca/ca.crt -CAkey /complement/ca/ca.key 2>/dev/null

export MYELIN_SERVER_NAME="$SERVER_NAME"
export MYELIN_DATA_DIR="$data"

# All ports are open before the first one answers, so whoever gets an answer on 8008 can speak with 8448. Some tests look
# for federation endpoints on 8008 too.
export MYELIN_LISTENERS_0_BIND=0.0.0.0:8448
export MYELIN_LISTENERS_0_SERVE=federation
export MYELIN_LISTENERS_0_TLS_CERTIFICATE="$tls/certificate.pem"
export MYELIN_LISTENERS_0_TLS_PRIVATE_KEY="$tls/key.pem"
export MYELIN_LISTENERS_1_BIND=0.0.0.0:8008
export MYELIN_LISTENERS_1_SERVE=client,federation

# The tests' servers have private addresses and certificates of the same authority; nobody else is there.
export MYELIN_FEDERATION_EXTRA_CA_CERTIFICATES=/complement/ca/ca.crt
export MYELIN_FEDERATION_DENIED_IP_RANGES=
export MYELIN_FEDERATION_TRUSTED_KEY_SERVERS=
export MYELIN_FEDERATION_PUBLIC_ROOMS=true
export MYELIN_PRESENCE_ENABLED=true
export MYELIN_FEDERATION_DEVICE_NAMES=true
export MYELIN_OUTBOUND_HTTP_DENIED_IP_RANGES=

# Tests make users by the thousand, and administrators with the secret that Complement prescribes.
export MYELIN_REGISTRATION_MODE=open
export MYELIN_REGISTRATION_GUESTS=true
export MYELIN_REGISTRATION_SHARED_SECRET=complement
export MYELIN_LIMITS_RATE_LIMITS=false
export MYELIN_LIMITS_PASSWORD_HASHING_MEMORY_KIB=8
export MYELIN_LIMITS_PASSWORD_HASHING_ITERATIONS=1

# Tests make events of version 12 that its rules refuse, as long as Complement does not know it as a default.
export MYELIN_ROOMS_DEFAULT_VERSION=11

export MYELIN_LOG_LEVEL="${MYELIN_LOG_LEVEL:-info}"

# Myelin becomes process 1 and gets the signals itself.
exec myelin
