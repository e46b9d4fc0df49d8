"""A Synapse for tests that federate with one: it has a folder of its own, ports of the loopback interface, and certificates
that the test made.

    python serve.py FOLDER CLIENT_PORT FEDERATION_PORT AUTHORITY CERTIFICATE KEY

It is called localhost:FEDERATION_PORT. What is in the folder is used again, so a server that was killed goes on. It ends
when its standard input does, so that it never outlives its test.
"""

import json
import os
import sys
import threading
from pathlib import Path

from signedjson.key import generate_signing_key, write_signing_keys
from synapse.app.homeserver import main

# Tests are faster than people.
UNLIMITED = {"per_second": 100_000, "burst_count": 100_000}


def settings(folder, client_port, federation_port, authority, certificate, key):
    """Synapse's configuration, whose YAML may be JSON."""
    limits = ["message", "registration", "registration_token_validity", "admin_redaction", "joins_per_room", "3pid_validation",
              "key_requests", "presence", "delayed_event_mgmt", "room_creation", "user_directory", "reports"]
    loopback = ["127.0.0.1"]
    return {
        "server_name": f"localhost:{federation_port}",
        "pid_file": str(folder / "pid"),
        "listeners": [
            {"port": client_port, "type": "http", "bind_addresses": loopback, "resources": [{"names": ["client"]}]},
            {"port": federation_port, "type": "http", "tls": True, "bind_addresses": loopback,
             "resources": [{"names": ["federation"]}]},
        ],
        "tls_certificate_path": certificate,
        "tls_private_key_path": key,
        "federation_custom_ca_list": [authority],
        "federation_ip_range_blacklist": [],
        "ip_range_blacklist": [],
        "trusted_key_servers": [],
        "database": {"name": "sqlite3", "args": {"database": str(folder / "synapse.db")}},
        "media_store_path": str(folder / "media"),
        "signing_key_path": str(folder / "signing.key"),
        "log_config": str(folder / "log.json"),
        "macaroon_secret_key": "of a test",
        "form_secret": "of a test",
        "report_stats": False,
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "bcrypt_rounds": 4,
        "presence": {"enabled": False},
        "allow_public_rooms_over_federation": True,
        "room_list_publication_rules": [{"action": "allow"}],
        # Not minutes between two attempts of one transaction; a server that does not answer is left alone as always.
        "federation": {"max_long_retries": 1, "max_long_retry_delay": "1s"},
        **{f"rc_{name}": UNLIMITED for name in limits},
        "rc_login": {name: UNLIMITED for name in ["address", "account", "failed_attempts"]},
        "rc_joins": {name: UNLIMITED for name in ["local", "remote"]},
        "rc_invites": {name: UNLIMITED for name in ["per_room", "per_user", "per_issuer"]},
        "rc_federation": {"window_size": 1, "sleep_limit": 100_000, "sleep_delay": 1, "reject_limit": 100_000,
                          "concurrent": 100},
    }


def log(folder):
    """All that is worth telling goes into a file."""
    return {
        "version": 1,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(folder / "log"), "formatter": "plain"}},
        "root": {"level": os.environ.get("MYELIN_TEST_SYNAPSE_LOG", "WARNING"), "handlers": ["file"]},
        "disable_existing_loggers": False,
    }


def end_with_input():
    """Ends the process when nobody holds the other end of its standard input."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def serve(folder, client_port, federation_port, *certificates):
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    if not (folder / "signing.key").exists():
        with open(folder / "signing.key", "w") as file:
            write_signing_keys(file, [generate_signing_key("a_1")])
    (folder / "log.json").write_text(json.dumps(log(folder)))
    config = folder / "homeserver.json"
    config.write_text(json.dumps(settings(folder, int(client_port), int(federation_port), *certificates)))
    threading.Thread(target=end_with_input, daemon=True).start()
    sys.argv = [sys.argv[0], "--config-path", str(config)]
    main()


if __name__ == "__main__":
    serve(*sys.argv[1:])
