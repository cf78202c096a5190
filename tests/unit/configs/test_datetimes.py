"""How the time of an acquisition may be written."""

import unittest
from datetime import UTC, date, datetime, time, timedelta, timezone
from email.utils import format_datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.configs.datetimes import from_serial, parse_acq_datetime

LAB = ZoneInfo("America/Los_Angeles")
MOMENT = datetime(2024, 2, 19, 11, 25, 17)
MOMENTS = st.datetimes(datetime(1980, 1, 1), datetime(2099, 12, 31, 23, 59, 59))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


class ReadableTimesTest(unittest.TestCase):
    """What Excel, LibreOffice, Google Sheets and Python write is read."""

    def read_alike(self, expected, *texts, **options):
        for text in texts:
            with self.subTest(text=text):
                self.assertEqual(parse_acq_datetime(text, **options), expected)

    def test_iso_in_its_variants(self):
        self.read_alike(
            MOMENT,
            "2024-02-19T11:25:17",
            "2024-02-19 11:25:17",
            "  2024-02-19 11:25:17\u00a0",
            "2024-02-19t11:25:17",
            "2024-02-19 11:25:17.000",
            "2024/02/19 11:25:17",
            "2024/2/19 11:25:17 AM",
            "2024.02.19 11:25:17",
            "20240219T112517",
            "20240219112517",
            "20240219_112517",
            "2024-02-19_11-25-17",
            "2024-02-19T11-25-17",
            "2024-02-19, 11:25:17",
        )

    def test_month_first_dates(self):
        self.read_alike(
            MOMENT,
            "2/19/2024 11:25:17 AM",
            "02/19/2024 11:25:17",
            "2/19/24 11:25:17",
            "2/19/2024, 11:25:17 AM",
            "2/19/2024, 11:25:17\u202fAM",
            "2/19/2024 11:25:17 a.m.",
            "2-19-2024 11:25:17",
            "02/19/24 11:25:17",
        )

    def test_month_names(self):
        self.read_alike(
            MOMENT,
            "19-Feb-2024 11:25:17",
            "19-Feb-24 11:25:17",
            "19 February 2024 11:25:17",
            "Feb 19, 2024 11:25:17 AM",
            "February 19, 2024 at 11:25:17 AM",
            "Monday, February 19, 2024 11:25:17 AM",
            "Monday, 19 February 2024 11:25:17",
            "Mon Feb 19 11:25:17 2024",
            "19-feb-2024 11:25:17",
        )

    def test_dotted_dates_are_day_first_in_any_lab(self):
        for order in ("MDY", "DMY"):
            self.read_alike(
                datetime(2024, 3, 2, 11, 25, 17),
                "02.03.2024 11:25:17",
                "2.3.2024 11:25:17",
                "2.3.24, 11:25:17",
                date_order=order,
            )

    def test_slash_dates_follow_the_lab_s_order(self):
        self.assertEqual(parse_acq_datetime("2/3/2024 9:05"), datetime(2024, 2, 3, 9, 5))
        self.assertEqual(parse_acq_datetime("2/3/2024 9:05", "DMY"), datetime(2024, 3, 2, 9, 5))
        self.assertEqual(parse_acq_datetime("2024/2/3 9:05", "DMY"), datetime(2024, 2, 3, 9, 5))

    def test_am_and_pm(self):
        for text, hour in (("12:05 AM", 0), ("1:05 am", 1), ("12:05 PM", 12), ("11:05pm", 23)):
            with self.subTest(text=text):
                self.assertEqual(
                    parse_acq_datetime(f"2/19/2024 {text}"), datetime(2024, 2, 19, hour, 5)
                )

    def test_fractions_after_point_or_comma_down_to_the_microsecond(self):
        for text, micro in ((".5", 500000), (",123", 123000), (".123456789", 123456)):
            with self.subTest(text=text):
                self.assertEqual(
                    parse_acq_datetime(f"2024-02-19 11:25:17{text}"),
                    MOMENT.replace(microsecond=micro),
                )

    def test_python_objects_are_taken_as_they_are(self):
        self.assertEqual(parse_acq_datetime(MOMENT), MOMENT)

    @given(MOMENTS)
    def test_whatever_python_prints_is_read_back(self, moment):
        for text in (moment.isoformat(), str(moment), f"{moment:%m/%d/%Y %I:%M:%S.%f %p}"):
            self.assertEqual(parse_acq_datetime(text), moment)
        whole = moment.replace(microsecond=0)
        for text in (
            whole.ctime(),
            f"{whole:%d-%b-%Y %H:%M:%S}",
            f"{whole:%A, %B %d, %Y %I:%M:%S %p}",
            f"{whole:%Y%m%dT%H%M%S}",
        ):
            self.assertEqual(parse_acq_datetime(text), whole)

    @given(MOMENTS, ZONES)
    def test_whatever_python_prints_with_an_offset_is_read_back(self, moment, zone):
        aware = moment.replace(tzinfo=zone)
        for text in (aware.isoformat(), str(aware), aware.strftime("%Y-%m-%dT%H:%M:%S.%f%z")):
            found = parse_acq_datetime(text)
            self.assertEqual((found, found.utcoffset()), (aware, aware.utcoffset()))
        whole = aware.replace(microsecond=0)
        self.assertEqual(parse_acq_datetime(format_datetime(whole)), whole)


class ZoneTest(unittest.TestCase):
    """A time without a zone is the lab's; one with a zone is converted where the lab's is known."""

    def test_a_time_without_a_zone_is_the_lab_s_wall_clock(self):
        self.assertEqual(parse_acq_datetime("2024-02-19T11:25:17", "MDY", LAB), MOMENT)

    def test_a_time_with_an_offset_is_converted_to_the_lab_s_wall_clock(self):
        for text in (
            "2024-02-19T19:25:17Z",
            "2024-02-19 19:25:17 UTC",
            "2024-02-19T19:25:17+00:00",
            "2024-02-19T11:25:17-0800",
            "2024-02-19T11:25:17 -08",
            "2/19/2024 7:25:17 PM GMT",
            "Mon Feb 19 2024 11:25:17 GMT-0800",
            "Mon, 19 Feb 2024 19:25:17 GMT",
        ):
            with self.subTest(text=text):
                found = parse_acq_datetime(text, "MDY", LAB)
                self.assertEqual((found, found.tzinfo), (MOMENT, None))

    def test_summer_time_is_heeded(self):
        self.assertEqual(
            parse_acq_datetime("2024-07-01T19:00:00Z", "MDY", LAB), datetime(2024, 7, 1, 12)
        )

    def test_where_the_lab_s_zone_is_not_known_the_offset_is_kept(self):
        found = parse_acq_datetime(MOMENT.replace(tzinfo=LAB))
        self.assertEqual(found.isoformat(), "2024-02-19T11:25:17-08:00")
        self.assertEqual(parse_acq_datetime("2024-02-19T11:25:17Z").tzinfo, UTC)

    def test_an_offset_with_seconds_becomes_utc_which_json_can_carry(self):
        odd = MOMENT.replace(tzinfo=timezone(timedelta(hours=-7, minutes=-52, seconds=-58)))
        found = parse_acq_datetime(odd)
        self.assertEqual((found, found.utcoffset()), (odd, timedelta(0)))


class ClockChangeTest(unittest.TestCase):
    """The hours that a clock shows twice, or not at all."""

    REPEATED = (
        # zone, UTC, the lab's time with its offset
        ("America/Los_Angeles", "2024-11-03T08:30:00Z", "2024-11-03T01:30:00-07:00"),
        ("America/Los_Angeles", "2024-11-03T09:30:00Z", "2024-11-03T01:30:00-08:00"),
        ("Europe/London", "2024-10-27T00:59:59Z", "2024-10-27T01:59:59+01:00"),
        ("Europe/London", "2024-10-27T01:00:00Z", "2024-10-27T01:00:00+00:00"),
        ("Europe/Moscow", "2014-10-25T22:15:00Z", "2014-10-26T01:15:00+03:00"),
        ("Australia/Lord_Howe", "2024-04-06T15:05:00Z", "2024-04-07T01:35:00+10:30"),
    )

    def test_the_offset_is_kept_in_the_hour_that_the_clock_shows_twice(self):
        for zone, utc, local in self.REPEATED:
            for text in (utc, local):
                with self.subTest(zone=zone, text=text):
                    found = parse_acq_datetime(text, "MDY", ZoneInfo(zone))
                    self.assertEqual(local, found.isoformat())
                    again = parse_acq_datetime(found.isoformat(), "MDY", ZoneInfo(zone))
                    self.assertEqual((local, 0), (again.isoformat(), again.fold))

    def test_python_objects_keep_their_instant_there(self):
        for fold, offset in ((0, "-07:00"), (1, "-08:00")):
            moment = datetime(2024, 11, 3, 1, 30, tzinfo=LAB, fold=fold)
            for options in ({}, {"lab_timezone": LAB}):
                found = parse_acq_datetime(moment, **options)
                self.assertEqual(f"2024-11-03T01:30:00{offset}", found.isoformat())

    def test_the_hours_around_it_have_no_offset(self):
        for utc, local in (
            ("2024-11-03T07:59:59Z", datetime(2024, 11, 3, 0, 59, 59)),
            ("2024-11-03T10:00:00Z", datetime(2024, 11, 3, 2)),
            ("2024-03-10T09:59:59Z", datetime(2024, 3, 10, 1, 59, 59)),
            ("2024-03-10T10:00:00Z", datetime(2024, 3, 10, 3)),
        ):
            for value in (utc, local):
                with self.subTest(value=value):
                    found = parse_acq_datetime(value, "MDY", LAB)
                    self.assertEqual((local, None), (found, found.tzinfo))

    def test_a_time_without_an_offset_is_refused_with_both_readings(self):
        for zone, value, problem, first, second in (
            (
                "America/Los_Angeles",
                "11/3/2024 1:30 AM",
                "is ambiguous: the clock of America/Los_Angeles was set back",
                "2024-11-03T01:30:00-07:00",
                "2024-11-03T01:30:00-08:00",
            ),
            (
                "America/Los_Angeles",
                datetime(2024, 3, 10, 2, 30),
                "does not exist: the clock of America/Los_Angeles was set forward",
                "2024-03-10T01:30:00-08:00",
                "2024-03-10T03:30:00-07:00",
            ),
            (
                "Europe/Berlin",
                "2024-10-27T02:00:00",
                "is ambiguous",
                "2024-10-27T02:00:00+02:00",
                "2024-10-27T02:00:00+01:00",
            ),
            (
                "Pacific/Apia",
                "2011-12-30T12:00:00",
                "does not exist",
                "2011-12-29T12:00:00-10:00",
                "2011-12-31T12:00:00+14:00",
            ),
        ):
            with self.subTest(zone=zone, value=value):
                with self.assertRaisesRegex(ValueError, problem) as caught:
                    parse_acq_datetime(value, "MDY", ZoneInfo(zone))
                self.assertTrue(
                    str(caught.exception).endswith(f"; write {first} or {second} as text"),
                    caught.exception,
                )
                for text in (first, second):
                    parse_acq_datetime(text, "MDY", ZoneInfo(zone))

    def test_a_client_s_time_that_its_zone_does_not_have_is_refused(self):
        for fold in (0, 1):
            moment = datetime(2024, 3, 10, 2, 30, tzinfo=LAB, fold=fold)
            with self.assertRaisesRegex(ValueError, "does not exist: the clock"):
                parse_acq_datetime(moment)

    @given(st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)))
    def test_the_instant_is_kept_in_any_hour(self, moment):
        found = parse_acq_datetime(moment, "MDY", LAB)
        self.assertEqual(moment, found if found.tzinfo else found.replace(tzinfo=LAB))


class RefusedTimesTest(unittest.TestCase):
    """What is no date and time is refused with the reason and with what would be right."""

    def assert_refused(self, value, reason, **options):
        with self.subTest(value=value):
            with self.assertRaisesRegex(ValueError, reason) as caught:
                parse_acq_datetime(value, **options)
            self.assertTrue(str(caught.exception).isprintable())

    def test_a_date_without_a_time(self):
        for value in (
            "2024-02-19",
            "2/19/2024",
            "19.02.2024",
            "20240219",
            "19-Feb-24",
            "February 19, 2024",
            "Monday, February 19, 2024",
            date(2024, 2, 19),
        ):
            self.assert_refused(value, "is a date without a time; write date and time, for example")

    def test_a_time_without_a_date(self):
        for value in ("11:25:17", "11:25 AM"):
            self.assert_refused(value, "is a time without a date")

    def test_a_number(self):
        for value in ("45341.475891", "45341"):
            self.assert_refused(value, "is a number and no date and time: give the column")
        for value in (45341.475, 1708341917, True, None, time(11, 25)):
            self.assert_refused(value, "is no date and time")

    def test_a_month_that_does_not_exist_is_told_with_the_order(self):
        self.assert_refused("19/2/2024 11:25", r"has no month 19: .* read month/day/year here")
        self.assert_refused(
            "2/19/2024 11:25", r"has no month 19: .* read day/month/year", date_order="DMY"
        )
        self.assert_refused("19-Xyz-2024 11:25", "names no month")

    def test_a_moment_that_does_not_exist(self):
        for value in (
            "2024-02-30 11:25",
            "2024-13-01 11:25",
            "2024-02-19 24:00",
            "2024-02-19 11:60",
            "2024-02-19 11:25:60",
            "2024-02-19T11:25:17+25:00",
            "2024-02-19T11:25:17+08:99",
        ):
            self.assert_refused(value, "does not exist")

    def test_an_hour_that_am_and_pm_do_not_have(self):
        for value in ("2/19/2024 13:25 PM", "2/19/2024 0:25 AM"):
            self.assert_refused(value, "AM and PM go with hours 1 to 12")

    def test_a_zone_that_is_only_a_name(self):
        self.assert_refused("2024-02-19 11:25:17 PST", '"PST" is not understood; leave the zone')
        self.assert_refused("2024-02-19 11:25 America/New_York", '"America/New_York" is not')

    def test_years_in_which_nobody_recorded(self):
        for value in ("1904-02-19 11:25", "2100-01-01T00:00:00", datetime(1, 1, 1)):
            self.assert_refused(value, "does not lie between 1980 and 2099")
        for year in (1, 9999):
            edge = datetime(year, 1 if year == 1 else 12, 1 if year == 1 else 31, 12, tzinfo=UTC)
            zone = timezone(timedelta(hours=-23 if year == 1 else 23))
            self.assert_refused(edge.astimezone(UTC), "1980 and 2099", lab_timezone=zone)

    def test_nonsense(self):
        for value in ("", "tomorrow", "2024-02-19T", "2024-02-19 11", "٢٠٢٤-٠٢-١٩ ١١:٢٥"):
            self.assert_refused(value, "is no date and time; write date and time")

    @given(st.one_of(st.text(), st.text("0123456789/-:. TZAPM+,JanFeb", max_size=40)))
    def test_any_text_is_read_or_refused_in_words(self, text):
        try:
            parse_acq_datetime(text, "MDY", LAB)
        except ValueError as error:
            self.assertTrue(str(error).isprintable(), repr(str(error)))
            self.assertRegex(str(error), "write|leave|lie between|go with|exist")


class SerialTest(unittest.TestCase):
    """Spreadsheets keep times as numbers of days."""

    @given(MOMENTS, st.booleans())
    def test_a_serial_number_is_read_to_the_millisecond(self, moment, date1904):
        moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        epoch = datetime(1904, 1, 1) if date1904 else datetime(1899, 12, 30)
        serial = (moment - epoch) / timedelta(days=1)
        if serial.is_integer():
            serial += 0.5
            moment += timedelta(days=0.5)
        self.assertEqual(from_serial(serial, date1904), moment)

    def test_a_whole_number_is_a_date_without_a_time(self):
        with self.assertRaisesRegex(ValueError, "2024-02-19T00:00:00 as text where midnight"):
            from_serial(45341)

    def test_a_number_of_no_likely_day_is_refused(self):
        for serial in (690165.5, 0.5, -1.0, float("nan"), float("inf")):
            with self.subTest(serial=serial), self.assertRaisesRegex(ValueError, "no date and"):
                from_serial(serial)
