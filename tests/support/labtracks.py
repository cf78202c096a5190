"""LabTracks for tests: its tables, as far as they are asked for, on a server that speaks TDS."""

from typing import Any, Self

from aind_data_transfer_service.settings.metadata_sources import LabtracksSettings
from tests.support.tds import SqlServer

PASSWORD = "p'ä ss;word"
_ID = "NUMERIC(18, 0)"
_ANIMAL = {
    "ID": _ID,
    "SEX": "NVARCHAR(10)",
    "BIRTH_DATE": "DATETIME",
    "CLASS_VALUES": "NTEXT",
    "CAGE_ID": _ID,
    "ROOM_ID": _ID,
    "SPECIES_ID": _ID,
    "GROUP_ID": _ID,
    "MATERNAL_INDEX": _ID,
    "PATERNAL_INDEX": _ID,
}
_OTHERS = (
    f"CREATE TABLE SPECIES (ID {_ID}, SPECIES_NAME NVARCHAR(50))",
    f"CREATE TABLE GROUPS (ID {_ID}, GROUP_NAME NVARCHAR(50), GROUP_DESCRIPTION NVARCHAR(200))",
    f"CREATE TABLE TASK_SET (ID {_ID}, TASK_TYPE_ID {_ID}, ACUC_LINK_ID {_ID}, DATE_START DATETIME,"
    f" DATE_END DATETIME, INVESTIGATOR_ID {_ID}, TASK_DESCRIPTION NTEXT, TASK_STATUS NVARCHAR(10))",
    f"CREATE TABLE TASK_SET_OBJECT (ID {_ID}, TASK_ID {_ID}, TASK_OBJECT {_ID})",
    f"CREATE TABLE TASK_TYPE (ID {_ID}, TYPE_NAME NVARCHAR(50))",
    f"CREATE TABLE ACUC_PROTOCOL (LINK_INDEX {_ID}, PROTOCOL_NUMBER NVARCHAR(20),"
    " PROTOCOL_TITLE NVARCHAR(200))",
    "INSERT INTO TASK_TYPE VALUES (1, 'Tattoo/Tail Tip'), (2, 'Perfusion Gel'), "
    "(3, 'RO Injection VGT')",
    "INSERT INTO ACUC_PROTOCOL VALUES (5, '2002', 'Perfusion of mice')",
    "INSERT INTO SPECIES VALUES (1, 'mouse'), (2, 'rat')",
    "INSERT INTO GROUPS VALUES (10, 'Vip-IRES-Cre', 'C57BL/6J'), (11, 'Exp-ND-01', 'BALB/c')",
)


def xml(genotype: str | None) -> str:
    """Write CLASS_VALUES as LabTracks does, other fields around the one that counts."""
    field = "" if genotype is None else f"<Full_Genotype>{genotype}</Full_Genotype>"
    return (
        '<?xml version="1.0" encoding="utf-16"?>\r\n<MouseCustomClass xmlns:xsd="http://x">'
        f"<Reserved_by>Anna Example</Reserved_by>{field}<Solution /></MouseCustomClass>"
    )


class Labtracks(SqlServer):
    """A LabTracks with two species, two groups, and the animals that a test puts there."""

    def __init__(self) -> None:
        super().__init__("reader", PASSWORD, "colony")
        columns = ", ".join(f"{name} {type_}" for name, type_ in _ANIMAL.items())
        self.execute(f"CREATE TABLE ANIMALS_COMMON ({columns})")
        for statement in _OTHERS:
            self.execute(statement)

    def has(self, number: int, **columns: Any) -> Self:
        """Put an animal there: a male mouse, unless told otherwise."""
        values = {
            "ID": number,
            "SEX": "M",
            "BIRTH_DATE": "2023-08-14 00:00:00",
            "CLASS_VALUES": xml("wt/wt"),
            "CAGE_ID": 4711,
            "ROOM_ID": 271,
            "SPECIES_ID": 1,
            "GROUP_ID": 10,
        } | columns
        names, places = ", ".join(values), ", ".join("?" * len(values))
        self.execute(
            f"INSERT INTO ANIMALS_COMMON ({names}) VALUES ({places})", list(values.values())
        )
        return self

    def has_a_task(self, number: int, animal: int, kind: int, status: str | None = "F") -> Self:
        """Put a task of an animal there: of type 1 (tattoo), 2 (perfusion) or 3 (injection)."""
        started, ended = "2023-10-11 00:00:00", "2023-10-11 04:30:00"
        self.execute(
            "INSERT INTO TASK_SET VALUES (?, ?, 5, ?, ?, 28803, ?, ?)",
            [number, kind, started, ended, "as asked", status],
        )
        self.execute("INSERT INTO TASK_SET_OBJECT VALUES (?, ?, ?)", [number, number, animal])
        return self

    def has_a_family(self) -> Self:
        """Put a male mouse 690165 there, with its dam 600001 and its sire 600002."""
        self.has(600001, SEX="F", CLASS_VALUES=xml("Vip-IRES-Cre/wt"), GROUP_ID=11)
        self.has(600002, CLASS_VALUES=xml("Ai32/Ai32"))
        return self.has(
            690165,
            CLASS_VALUES=xml("Vip-IRES-Cre/wt;Ai32/wt"),
            MATERNAL_INDEX=600001,
            PATERNAL_INDEX=600002,
        )

    def settings(self, **other: Any) -> LabtracksSettings:
        """Give the settings of someone who may ask."""
        return LabtracksSettings(
            **{
                "server": "127.0.0.1",
                "port": self.port,
                "database": "colony",
                "user": "reader",
                "password": PASSWORD,
                **other,
            }
        )
