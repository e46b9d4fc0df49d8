"""A throw-away certificate authority, by openssl."""

from network import command


class Authority:
    """An authority whose files live in a folder that the caller deletes."""

    def __init__(self, folder):
        self.folder = folder
        self.file = f"{folder}/authority.pem"
        command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "3650", "-subj", "/CN=faults", "-keyout", f"{folder}/authority.key", "-out", self.file)

    def certificate(self, name, address):
        """Certificate and key for an address; valid from far ago on, since clocks are moved."""
        stem = f"{self.folder}/{name}"
        with open(f"{stem}.ext", "w", encoding="ascii") as file:
            file.write(f"subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
        command("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-subj", f"/CN={name}", "-keyout", f"{stem}.key", "-out", f"{stem}.csr")
        command("openssl", "x509", "-req", "-in", f"{stem}.csr", "-CA", self.file,
                "-CAkey", f"{self.folder}/authority.key", "-CAcreateserial", "-days", "3650",
                "-extfile", f"{stem}.ext", "-out", f"{stem}.pem")
        return f"{stem}.pem", f"{stem}.key"
