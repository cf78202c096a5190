"""The client of LabTracks: pymssql and FreeTDS as they are, against a server that speaks TDS."""

import json
import time
import traceback
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymssql
from aind_data_schema.core.subject import Subject
from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.sources.labtracks.source import LabtracksSource
from tests.support import campaign, free_port, slow
from tests.support.labtracks import PASSWORD, Labtracks, xml
from tests.support.tds import Fault, Refusal
from tests.support.tds_wire import Encryption


class Asking(unittest.TestCase):
    """A LabTracks, and someone who asks it."""

    def setUp(self) -> None:
        self.server = self.enterContext(Labtracks())
        self.waits: list[float] = []

    def source(self, timeout: float = 5.0, attempts: int = 3, **other: Any) -> LabtracksSource:
        """Make a client, whose waiting is only recorded."""
        source = LabtracksSource(
            self.server.settings(**other), timeout, attempts, self.waits.append
        )
        self.addCleanup(source.close)
        return source

    def told(self, words: str, ask: Callable[[], Any]) -> float:
        """Have a question fail in these words, without a password; tell how long it took."""
        begun = time.monotonic()
        with self.assertRaisesRegex(MetadataError, words) as raised:
            ask()
        taken = time.monotonic() - begun
        shown = "".join(traceback.format_exception(raised.exception))
        self.assertNotIn(PASSWORD, shown)
        self.assertNotIn("\n", str(raised.exception))
        self.assertTrue(str(raised.exception).startswith("LabTracks (127.0.0.1:"))
        return taken


class Answers(Asking):
    """What LabTracks has, and has not."""

    def test_a_mouse_bred_in_house(self) -> None:
        self.server.has_a_family()
        found = self.source().subject("690165")
        self.assertEqual((True, True, ()), (found.valid, found.complete, found.notes))
        self.assertEqual(
            f"LabTracks (127.0.0.1:{self.server.port}), colony, ANIMALS_COMMON 690165", found.source
        )
        model = Subject.model_validate_json(json.dumps(found.document))
        self.assertEqual(json.loads(model.model_dump_json()), found.document)
        self.assertEqual("Vip-IRES-Cre/wt;Ai32/wt", model.genotype)
        self.assertEqual("C57BL/6J", model.background_strain)
        self.assertEqual("2023-08-14", found.document["date_of_birth"])
        self.assertEqual(
            {
                "breeding_group": "Exp-ND-01",
                "maternal_id": "600001",
                "maternal_genotype": "Vip-IRES-Cre/wt",
                "paternal_id": "600002",
                "paternal_genotype": "Ai32/Ai32",
            },
            model.breeding_info.model_dump(),
        )

    def test_a_long_text_of_any_language_arrives_whole(self) -> None:
        genotype = "Δ-größe 鼠 🐭 " * 2000
        self.server.has(1, CLASS_VALUES=xml(genotype))
        self.assertEqual(genotype.strip(), self.source().subject("1").document["genotype"])

    def test_an_animal_of_which_next_to_nothing_is_known(self) -> None:
        nothing = dict.fromkeys(
            ("SEX", "BIRTH_DATE", "CLASS_VALUES", "CAGE_ID", "ROOM_ID", "SPECIES_ID", "GROUP_ID")
        )
        found = self.server.has(1, **nothing) and self.source().subject("1")
        self.assertEqual((False, False), (found.valid, found.complete))
        self.assertEqual(5, len(found.notes))
        self.assertEqual("1", found.document["subject_id"])

    def test_genotypes_that_cannot_be_read_leave_a_document(self) -> None:
        self.server.has(1, CLASS_VALUES="<MouseCustomClass><Full_Genotype>wt")
        found = self.source().subject("1")
        self.assertEqual("Male", found.document["sex"])
        self.assertFalse(found.complete)
        self.assertIn("CLASS_VALUES is not XML", found.notes[-1])

    def test_several_rows(self) -> None:
        self.server.has(1).has(1).has(2).has(2, SEX="F")
        self.assertIn("2 rows, which say the same", self.source().subject("1").notes[0])
        with self.assertRaisesRegex(MetadataError, "2 rows of 2 that contradict .* in sex; have"):
            self.source().subject("2")

    def test_what_nobody_knows_is_none(self) -> None:
        self.assertIsNone(self.source().subject("690165"))
        self.assertEqual((None, []), (self.source().rig("1"), self.source().project_names()))

    def test_finished_perfusions_and_injections_are_procedures(self) -> None:
        for number, kind in enumerate((1, 2, 3), 100):
            self.server.has_a_task(number, 690165, kind)
        self.server.has_a_task(200, 690165, 2, "C").has_a_task(201, 7, 2)
        found = self.source().procedures("690165")
        first, second = found.document["subject_procedures"]
        self.assertEqual(
            ["Perfusion", "Retro-orbital injection"],
            [part["procedures"][0]["procedure_type"] for part in (first, second)],
        )
        for part in (first, second):
            self.assertEqual("2023-10-11", part["start_date"])
            self.assertEqual("2002", part["iacuc_protocol"])
            self.assertEqual("LAS-28803", part["experimenter_full_name"])
        self.assertEqual(["690165"], first["procedures"][0]["output_specimen_ids"])
        self.assertIn("task type: RO Injection VGT", second["notes"].splitlines())
        self.assertIn("task 200 (Perfusion Gel): left out: its status is C", found.notes)
        self.assertIn("lacks injection_volume, injection_eye, injection_materials", found.notes[0])
        self.assertFalse(found.valid)

    def test_without_such_tasks_there_are_no_procedures(self) -> None:
        self.server.has_a_task(100, 690165, 1)
        for subject_id in ("690165", "1", "no number"):
            self.assertIsNone(self.source().procedures(subject_id))

    def test_the_animal_of_the_case(self) -> None:
        case = json.loads((Path(__file__).parents[2] / "cases" / "labtracks_rows.json").read_text())
        for group in case["GROUPS"]:
            values = [group["ID"], group["GROUP_NAME"], group["GROUP_DESCRIPTION"]]
            self.server.execute("INSERT INTO GROUPS VALUES (?, ?, ?)", values)
        for kind in case["SPECIES"]:
            self.server.execute("INSERT INTO SPECIES VALUES (?, ?)", list(kind.values()))
        for animal in case["ANIMALS_COMMON"]:
            columns = animal | {"BIRTH_DATE": animal["BIRTH_DATE"].replace("T", " ")}
            self.server.has(columns.pop("ID"), **columns)
        found = self.source().subject("700008")
        self.assertEqual((True, True), (found.valid, found.complete), found.notes)
        self.assertIsNone(found.document["housing"])
        self.assertEqual("BALB/c", found.document["background_strain"])
        self.assertEqual("Genea-Cre/wt;Ai0/wt", found.document["genotype"])
        self.assertEqual(
            {
                "breeding_group": "Genea-Cre;Ai0(ND)",
                "maternal_id": "700006",
                "maternal_genotype": "Genea-Cre/wt",
                "paternal_id": "700007",
                "paternal_genotype": "Ai0/wt",
            },
            found.document["breeding_info"],
        )

    def test_it_is_read_and_never_written(self) -> None:
        self.server.has_a_family()
        self.source().subject("690165")
        [login] = self.server.logins
        self.assertTrue(login.read_only)
        self.assertEqual("aind-data-transfer-service", login.application)
        for statement in self.server.statements:
            self.assertRegex(statement.strip(), r"(?i)^(select|set|use)\b")
        self.assertEqual(1, sum("ANIMALS" in statement for statement in self.server.statements))

    def test_the_login_is_encrypted_where_the_server_can(self) -> None:
        self.server.has_a_family()
        for encryption, encrypted in (
            (Encryption.NONE, False),
            (Encryption.LOGIN_ONLY, True),
            (Encryption.ALL, True),
        ):
            with self.subTest(encryption):
                self.server.encryption = encryption
                self.assertTrue(self.source().subject("690165").complete)
                self.assertEqual(encrypted, self.server.logins[-1].encrypted)
                self.told("refuses the login", lambda: self.source(password="no").subject("1"))

    def test_threads_do_not_wait_for_each_other(self) -> None:
        for number in range(1, 25):
            self.server.has(number, CAGE_ID=number)
        source = self.source()
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(source.subject, map(str, range(1, 25))))
        cages = [answer.document["housing"]["cage_id"] for answer in found]
        self.assertEqual([str(number) for number in range(1, 25)], cages)


class Ids(unittest.TestCase):
    """Ids as nasty as people can make them."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = cls.enterClassContext(Labtracks().has(690165))
        cls.source = LabtracksSource(cls.server.settings())
        cls.addClassCleanup(cls.source.close)

    @settings(max_examples=campaign(200))
    @given(
        st.one_of(
            st.text(),
            st.text("0123456789 +-.eE'\n\t٣６"),
            st.sampled_from(
                (
                    "'; DROP TABLE ANIMALS_COMMON; --",
                    "690165 OR 1=1",
                    "690165'",
                    "690165\n",
                    " 690165",
                    "0690165",
                    "+690165",
                    "690165.0",
                    "６９０１６５",
                    "9" * 18,
                    "9" * 400,
                    "%(subject_id)s",
                    "",
                )
            ),
        )
    )
    def test_only_an_animals_own_number_finds_it(self, subject_id: str) -> None:
        asked = len(self.server.statements)
        found = self.source.subject(subject_id)
        self.assertEqual(subject_id == "690165", found is not None)
        if not (subject_id.isascii() and subject_id.isdigit()):
            self.assertEqual(asked, len(self.server.statements))

    def test_the_table_is_there_after_all_that(self) -> None:
        self.assertIsNotNone(self.source.subject("690165"))


class Failures(Asking):
    """Each way in which it goes wrong, told in words, in time, and without the password."""

    def setUp(self) -> None:
        super().setUp()
        self.server.has_a_family()

    def test_down(self) -> None:
        words = "cannot be reached; check LABTRACKS_SERVER and LABTRACKS_PORT"
        self.told(words, lambda: self.source(port=free_port()).subject("1"))
        with self.assertRaisesRegex(MetadataError, words):
            self.source(server="no-such-host.invalid").subject("1")
        self.assertEqual([], self.waits)

    @slow
    def test_a_server_that_never_says_a_word(self) -> None:
        self.server.silent = True
        taken = self.told("did not answer within 1.8 s", lambda: self.source(1.8).subject("1"))
        self.assertLess(taken, 4)
        self.assertEqual([], self.waits)

    @slow
    def test_a_slow_answer(self) -> None:
        self.server.faults.append(Fault.SLOW)
        taken = self.told("answer within 1.8 s", lambda: self.source(1.8).subject("690165"))
        self.assertLess(taken, 4)
        self.assertEqual([], self.waits)

    @slow
    def test_an_answer_that_drips(self) -> None:
        self.server.faults.append(Fault.TRICKLE)
        taken = self.told("answer within 0.4 s", lambda: self.source(0.4).subject("690165"))
        self.assertLess(taken, 4)

    def test_a_wrong_password_and_a_wrong_user(self) -> None:
        words = (
            'refuses the login of {} to "colony".*; check LABTRACKS_USER, LABTRACKS_PASSWORD and'
        )
        for user, other in (("reader", {"password": "no"}), ("nobody", {"user": "nobody"})):
            self.told(words.format(user), lambda other=other: self.source(**other).subject("1"))

    def test_a_wrong_database(self) -> None:
        words = '(let reader open a database|of reader to) "mice".*; check .*LABTRACKS_DATABASE'
        self.told(words, lambda: self.source(database="mice").subject("1"))

    @slow
    def test_a_failure_is_not_taken_for_the_one_before(self) -> None:
        source = self.source(1)
        self.told("refuses the login", lambda: self.source(password="no").subject("1"))
        for _ in range(2):
            self.told("refuses the login", lambda: self.source(password="no").subject("1"))
            self.told("let reader open", lambda: self.source(database="mice").subject("1"))
            self.told("cannot be reached", lambda: self.source(port=free_port()).subject("1"))
            self.server.faults.append(Refusal(229, 14, "The SELECT permission was denied"))
            self.told("does not let reader read", lambda: source.subject("1"))
        self.server.silent = True
        self.told("did not answer within", lambda: source.subject("1"))

    def test_a_database_without_the_tables(self) -> None:
        self.server.execute("DROP TABLE SPECIES")
        words = (
            r"not got the tables .* \(Invalid object name 'SPECIES'.\); check LABTRACKS_DATABASE"
        )
        self.told(words, lambda: self.source().subject("1"))
        self.server.execute("CREATE TABLE SPECIES (ID INT)")
        self.told("Invalid column name 'species.SPECIES_NAME'", lambda: self.source().subject("1"))

    def test_rights_that_are_missing(self) -> None:
        self.server.faults.append(
            Refusal(229, 14, "The SELECT permission was denied on 'SPECIES'.")
        )
        words = r"let reader read .*on 'SPECIES'.*needs SELECT on ANIMALS_COMMON.*procedures\)"
        self.told(words, lambda: self.source().subject("1"))

    def test_another_error_of_the_server_is_repeated(self) -> None:
        self.server.faults.append(Refusal(1205, 13, "Transaction was deadlocked.\nRerun it."))
        words = r"answered with an error \(Transaction was deadlocked. Rerun it.\); show it to"
        self.told(words, lambda: self.source().subject("1"))

    def test_garbage(self) -> None:
        self.server.faults.append(Fault.GARBAGE)
        words = "something that cannot be read; check that LABTRACKS_PORT is SQL Server's"
        self.told(words, lambda: self.source().subject("690165"))

    def test_values_that_nothing_can_hold(self) -> None:
        self.server.has(1, BIRTH_DATE="days:2000000000")
        words = r"cannot be read \(year .* out of range\); check that LABTRACKS_PORT"
        self.told(words, lambda: self.source().subject("1"))

    def test_a_connection_that_is_lost_is_made_again(self) -> None:
        for fault in (Fault.CLOSED, Fault.DROP, Fault.HALF):
            with self.subTest(fault):
                self.server.faults.append(fault)
                self.waits.clear()
                self.assertTrue(self.source().subject("690165").complete)
                self.assertEqual([0.5], self.waits)

    def test_half_an_answer_is_none_however_often_it_comes(self) -> None:
        self.server.faults.extend((Fault.DROP, Fault.HALF, Fault.CLOSED))
        words = "ended the connection without a whole answer.*; check .* and try again later"
        self.told(words, lambda: self.source().subject("690165"))
        self.assertEqual([0.5, 1.0], self.waits)

    def test_somebody_else_on_the_port(self) -> None:
        self.server.says_hello = b"SSH-2.0-OpenSSH_9.2\r\n"
        words = "(cannot be read|ended the connection).*check that LABTRACKS_PORT is SQL Server's"
        self.told(words, lambda: self.source(1).subject("690165"))


class TheServerOfTheTests(unittest.TestCase):
    """It speaks the protocol, as another question of a real driver shows."""

    def test_a_procedure_call_with_parameters_and_every_type(self) -> None:
        with Labtracks() as server:
            types = "INT BIGINT BIT NUMERIC NVARCHAR NTEXT VARCHAR XML DATETIME DATETIME2".split()
            server.execute(f"CREATE TABLE T ({', '.join(f'C_{name} {name}' for name in types)})")
            when = "2024-02-29 23:59:59.123456"
            server.execute(
                "INSERT INTO T VALUES (-5, 12345678901234, 1, -7, 'ä', 'ö', 'ü', '<ß/>', ?, ?)",
                (when, when),
            )
            server.execute("INSERT INTO T (C_INT) VALUES (6)")
            with pymssql.connect(
                "127.0.0.1", "reader", PASSWORD, "colony", port=server.port, login_timeout=5
            ) as connection:
                cursor = connection.cursor()
                cursor.callproc(
                    "sp_executesql",
                    (
                        "SELECT * FROM T WHERE C_INT = @i OR C_NVARCHAR = @t",
                        "@i int, @t text",
                        6,
                        "ä",
                    ),
                )
                first, second = cursor.fetchall()
        *others, datetime_, datetime2 = first
        self.assertEqual([-5, 12345678901234, True, -7, "ä", "ö", "ü", "\ufeff<ß/>"], others)
        self.assertEqual(when, str(datetime2))
        self.assertEqual(when[:22], str(datetime_)[:22])
        self.assertEqual((6, *[None] * 9), second)

    def test_a_question_may_be_given_up_for_another(self) -> None:
        with Labtracks() as server:
            for number in range(1, 500):
                server.has(number)
            with pymssql.connect(
                "127.0.0.1", "reader", PASSWORD, "colony", port=server.port, login_timeout=5
            ) as connection:
                cursor = connection.cursor()
                cursor.execute("SELECT * FROM ANIMALS_COMMON ORDER BY ID")
                self.assertEqual(1, cursor.fetchone()[0])
                cancelled = server.attentions
                cursor.execute("SELECT SPECIES_NAME FROM SPECIES WHERE ID = 2")
                self.assertEqual([("rat",)], cursor.fetchall())
                self.assertGreater(server.attentions, cancelled)
