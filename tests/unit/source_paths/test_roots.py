"""Which files jobs may read: roots, links, private folders, mounts."""

import errno
import os
import tempfile
import unittest
from pathlib import Path

from aind_data_transfer_service.errors import SourceError
from aind_data_transfer_service.source_paths.roots import SourceRoots, contained_keys, open_real

MOUNTS = r"""22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 254:1 / /srv rw - xfs /dev/vdb rw
31 27 254:1 /aind /vast/bound rw - xfs /dev/vdb rw
32 27 254:1 /aind/jobs /vast/outer/bound\040twice rw - xfs /dev/vdb rw
33 27 254:0 /etc/ssl /vast/certificates rw - ext4 /dev/vda rw
34 27 0:50 / /vast/old/proc rw - proc proc rw
35 27 0:60 / /vast/nfs rw - nfs4 server:/vast rw
36 27 0:60 / /srv/aind rw - nfs4 server:/aind rw
37 27 254:1 /data /vast/legal rw - xfs /dev/vdb rw
38 27 254:0 / /vast/host rw - ext4 /dev/vda rw
"""


class FolderTest(unittest.TestCase):
    """A folder with two roots and a private folder."""

    def setUp(self):
        self.folder = Path(os.path.realpath(self.enterContext(tempfile.TemporaryDirectory())))
        self.vast, self.scratch = self.folder / "vast", self.folder / "scratch"
        self.private, self.outside = self.folder / "service", self.folder / "outside"
        for one in (self.vast, self.scratch, self.private, self.outside):
            (one / "session").mkdir(parents=True)
            (one / "session" / "data.bin").write_text(one.name)

    def roots(self, *roots: Path, **more) -> SourceRoots:
        """Make the rule of these roots."""
        return SourceRoots(roots, [self.private], **more)

    def assert_refused(self, roots: SourceRoots, path: Path | str, words: str) -> None:
        """Make sure that a path is refused, named, and with what to do."""
        problem = roots.problem(str(path))
        self.assertTrue(problem.startswith(str(path)), problem)
        self.assertRegex(problem, words)


class Drives(unittest.TestCase):
    """USB drives where Linux desktops mount them."""

    mounts = """27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 0:25 / /run rw - tmpfs tmpfs rw
31 30 8:17 / /run/media/anna/rig7 rw - exfat /dev/sdb1 rw
32 30 8:17 / /run/user/1/rig7 rw - exfat /dev/sdb1 rw
"""

    def test_a_drive_that_a_user_plugged_in_may_be_uploaded(self):
        for roots in ([], ["/run/media"], ["/run/media/anna"]):
            rule = SourceRoots(roots, mounts=self.mounts)
            for path in ("/run/media/anna/rig7", "/run/media/anna/rig7/690165/video.avi"):
                with self.subTest(roots, path=path):
                    self.assertEqual("", rule.problem(path))

    def test_what_else_is_in_run_may_not(self):
        for path in (
            *("/run", "/run/media", "/run/media/anna", "/run/media/anna/../../secrets/x/y"),
            *("/run/media/anna/../../..", "/run/user/1/rig7", "/run/mediation/anna/rig7"),
            "/run/secrets/database-password",
        ):
            with self.subTest(path):
                self.assertIn("never uploaded", SourceRoots(mounts=self.mounts).problem(path))
        private = SourceRoots([], ["/run/media/anna/rig7/service"], mounts=self.mounts)
        self.assertIn("never uploaded", private.problem("/run/media/anna/rig7"))

    def test_keys_on_a_drive_may_not(self):
        rule = SourceRoots(mounts=self.mounts)
        self.assertIn("keys", rule.problem("/run/media/anna/rig7/.ssh/id"))


class Roots(FolderTest):
    """`SOURCE_ROOTS`."""

    def test_what_is_under_a_root_may_be_read(self):
        roots = self.roots(self.vast, self.scratch)
        for path in (self.vast, self.vast / "session", self.scratch / "session/data.bin"):
            self.assertEqual("", roots.problem(str(path)))
            self.assertEqual(str(path), roots.resolve(str(path)))

    def test_what_is_not_is_refused_with_the_roots_and_what_to_do(self):
        roots = self.roots(self.vast)
        for path in (
            self.outside,
            f"{self.vast}2",
            f"{self.vast}/../outside",
            self.folder / "gone",
        ):
            with self.subTest(path):
                problem = roots.problem(str(path))
                self.assertRegex(problem, r"not under a folder that may be uploaded \(.*/vast\);")
                self.assertIn("SOURCE_ROOTS", problem)

    def test_links_are_judged_by_where_they_lead(self):
        roots = self.roots(self.vast, self.scratch)
        (self.vast / "across").symlink_to(self.scratch / "session")
        (self.vast / "out").symlink_to(self.outside)
        (self.vast / "out again").symlink_to("out/session")
        self.assertEqual(f"{self.scratch}/session", roots.resolve(f"{self.vast}/across"))
        for name in ("out", "out/session", "out again", "out again/data.bin", "out/gone"):
            words = r"leads to .*/outside\S*, which is not under a folder"
            self.assert_refused(roots, self.vast / name, words)

    def test_a_root_may_be_a_link(self):
        (self.folder / "mnt").symlink_to(self.vast)
        roots = self.roots(self.folder / "mnt")
        self.assertEqual(f"{self.vast}/session", roots.resolve(f"{self.folder}/mnt/session"))
        self.assert_refused(roots, self.vast, "not under")

    def test_without_roots_all_but_private_folders_may_be_read(self):
        self.assertEqual("", self.roots().problem(str(self.outside)))


class Private(FolderTest):
    """What is never read, whatever the roots."""

    def test_folders_of_the_system_and_of_the_service(self):
        for roots in (self.roots(), self.roots(Path("/"))):
            for path in ("/proc/self/environ", "/sys", "/dev/shm", "/etc/ssl", "/run/user/1", "/"):
                self.assert_refused(roots, path, "is never uploaded: it is, or contains, /")
            for path in (self.private, self.private / "session", self.folder):
                self.assert_refused(
                    roots, path, "is never uploaded: it is, or contains, .*/service"
                )
            self.assertEqual("", roots.problem(str(self.vast)))

    def test_links_to_them(self):
        targets = ("/etc", "/etc/passwd", "/", "/proc/self", str(self.private), str(self.folder))
        for number, target in enumerate(targets):
            link = self.vast / f"link{number}"
            link.symlink_to(target)
            with self.subTest(target):
                self.assert_refused(self.roots(self.vast), link, "leads to .* never uploaded")

    def test_the_file_system_of_a_process_is_no_way_round(self):
        root = f"/proc/{os.getpid()}/root"
        for path in (f"{root}{self.vast}", "/proc/self/cwd", "/proc/self/fd/0"):
            self.assert_refused(self.roots(Path("/")), path, "it is, or contains, /proc")

    def test_folders_and_files_of_keys_of_any_user(self):
        for name in (".ssh", ".aws/credentials", ".kube", ".gnupg/x", ".config/gcloud", ".netrc"):
            with self.subTest(name):
                path = self.vast / "users/anna" / name
                self.assert_refused(self.roots(self.vast), path, "contains, keys")
        (self.vast / "users/anna/.ssh").mkdir(parents=True)
        (self.vast / "hidden").symlink_to(self.vast / "users/anna/.ssh")
        self.assert_refused(self.roots(self.vast), self.vast / "hidden", "contains, keys")
        for name in (".config", "ssh", "gcloud", ".sshd"):
            self.assertEqual("", self.roots(self.vast).problem(f"{self.vast}/{name}"))

    def test_the_folder_of_a_user_contains_keys(self):
        home = Path(self.enterContext(tempfile.TemporaryDirectory(dir="/tmp")))
        self.assertIsNone(contained_keys(str(home)))
        (home / ".config" / "rclone").mkdir(parents=True)
        self.assertEqual(f"{home}/.config/rclone", contained_keys(str(home)))

    def test_bind_mounts_of_them(self):
        roots = SourceRoots(
            ["/vast"], ["/srv/aind"], mounts=MOUNTS.replace(" 0:60 / /srv/aind", "")
        )
        for path in ("/vast/certificates", "/vast/old", "/vast/old/proc", "/vast/host", "/vast"):
            self.assert_refused(roots, path, "never uploaded")
        for path in ("/vast/bound", "/vast/bound/jobs", "/vast/outer", "/vast/outer/bound twice"):
            self.assert_refused(roots, path, "a private folder, mounted there")
        for path in ("/vast/legal", "/vast/session", "/vast/legal/bound", "/vast/host/vast/x"):
            self.assertEqual("", roots.problem(path), path)

    def test_exports_of_one_server_are_not_taken_for_each_other(self):
        roots = SourceRoots(["/vast"], ["/srv/aind"], mounts=MOUNTS)
        self.assertEqual("", roots.problem("/vast/nfs/session"))


class Opening(FolderTest):
    """What is opened is what was judged."""

    def read(self, roots: SourceRoots, path: Path) -> bytes:
        """Read a file through the rule."""
        descriptor = roots.open(str(path))
        try:
            return os.read(descriptor, 100)
        finally:
            os.close(descriptor)

    def test_files_are_opened_through_legal_links(self):
        (self.vast / "across").symlink_to(self.scratch)
        roots = self.roots(self.vast, self.scratch)
        self.assertEqual(b"scratch", self.read(roots, self.vast / "across/session/data.bin"))

    def test_links_out_are_not_opened(self):
        (self.vast / "out").symlink_to(self.outside)
        with self.assertRaisesRegex(SourceError, "leads to"):
            self.roots(self.vast).open(f"{self.vast}/out/session/data.bin")

    def test_a_link_that_comes_after_the_judgement_is_not_followed(self):
        for name in ("vast", "vast/session", "vast/session/data.bin"):
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                root = Path(os.path.realpath(folder))
                (root / "vast" / "session").mkdir(parents=True)
                (root / "vast" / "session" / "data.bin").touch()
                real = SourceRoots([root]).resolve(f"{root}/vast/session/data.bin")
                (root / name).rename(root / "before")
                (root / name).symlink_to(str(self.outside / name.partition("/")[2]))
                with self.assertRaises(OSError) as raised:
                    open_real(real, os.O_RDONLY)
                self.assertIn(raised.exception.errno, (errno.ELOOP, errno.ENOTDIR))


if __name__ == "__main__":
    unittest.main()
