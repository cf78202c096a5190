"""Which certificates the clients trust."""

import os
import ssl
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.network.tls_trust import trust
from tests.support.https import authority, ca_file


def _pem(certificate: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(certificate).encode()


class TrustTest(unittest.TestCase):
    """This machine's certificates, and those of a file."""

    def test_clients_share_the_certificates_of_the_machine(self):
        self.assertIs(trust(), trust())
        self.assertEqual(trust().verify_mode, ssl.CERT_REQUIRED)
        self.assertTrue(trust().check_hostname)

    def test_certificates_that_the_environment_names_are_read_anew(self):
        before = trust()
        with patch.dict(os.environ, SSL_CERT_FILE=str(ca_file())):
            self.assertIn(authority().cert_pem.bytes(), map(_pem, trust().get_ca_certs(True)))
        self.assertNotIn(authority().cert_pem.bytes(), map(_pem, before.get_ca_certs(True)))

    def test_a_machine_without_certificates_has_those_of_a_package(self):
        with tempfile.TemporaryDirectory() as folder:
            nothing = {"SSL_CERT_FILE": f"{folder}/none.pem", "SSL_CERT_DIR": folder}
            with patch.dict(os.environ, nothing):
                self.assertGreater(len(trust().get_ca_certs()), 50)

    def test_no_client_changes_the_protocols_of_the_others(self):
        trust().set_alpn_protocols(["http/1.1"])
        with self.assertRaises(ValueError):
            trust().set_alpn_protocols(["h2"])

    def test_a_file_is_trusted_by_those_who_name_it_alone(self):
        self.assertIn(authority().cert_pem.bytes(), map(_pem, trust(ca_file()).get_ca_certs(True)))
        self.assertNotIn(authority().cert_pem.bytes(), map(_pem, trust().get_ca_certs(True)))

    def test_a_file_that_holds_none_is_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "authority.pem"
            self.assertRaises(OSError, trust, path)
            path.write_text("no certificate")
            self.assertRaises(OSError, trust, path)
