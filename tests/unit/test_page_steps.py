"""The steps of a page are read as a reader sees them."""

import textwrap
import unittest

from tests.support.page_steps import Kind, PageError, Step, steps

PAGE = """\
Title
=====

A first section
---------------

::

    not a step

Set-up
------

1. Files
^^^^^^^^

Write this file:

.. code-block:: ini
   :caption: /etc/a.conf, on head, node1 and node2

   [a]
     b = 1

   c = 2

.. code-block:: ini
   :caption: Added to /etc/a.conf, on head

   d = 3

Then:

.. code-block:: bash
   :caption: On node1 and node2

   start a
   show a

.. code-block:: text
   :caption: Output

   a   is …
   up (1)

.. code-block:: bash
   :caption: Or with another program

   start b

Settings
--------

.. code-block:: bash

   not a step
"""


class Steps(unittest.TestCase):
    """A section becomes a list of steps."""

    def read(self, body: str) -> list[Step]:
        """Read a section of this text."""
        return steps("Set-up\n------\n\n" + textwrap.dedent(body), "Set-up")

    def test_each_block_of_the_section_is_a_step_with_its_machines(self) -> None:
        write, append, run, output = steps(PAGE, "Set-up")
        nodes = ("node1", "node2")
        text = "[a]\n  b = 1\n\nc = 2\n"
        self.assertEqual(Step(Kind.WRITE, 19, text, ("head", *nodes), "/etc/a.conf"), write)
        self.assertEqual(Step(Kind.APPEND, 27, "d = 3\n", ("head",), "/etc/a.conf"), append)
        self.assertEqual(Step(Kind.RUN, 34, "start a\nshow a\n", nodes), run)
        self.assertEqual((Kind.OUTPUT, "a   is …\nup (1)\n"), (output.kind, output.text))

    def test_a_block_without_a_caption_is_an_error_with_its_line(self) -> None:
        for block in (
            "::\n\n    start a\n",
            "Do::\n\n    start a\n",
            ".. code-block:: bash\n\n   a\n",
        ):
            with self.subTest(block), self.assertRaisesRegex(PageError, "line 4: a code block"):
                self.read(block)

    def test_a_caption_that_is_not_understood_is_an_error(self) -> None:
        with self.assertRaisesRegex(PageError, "Run on head"):
            self.read(".. code-block:: bash\n   :caption: Run on head\n\n   start\n")

    def test_an_output_follows_commands(self) -> None:
        with self.assertRaisesRegex(PageError, "an output has to follow"):
            self.read(".. code-block:: text\n   :caption: Output\n\n   a\n")

    def test_a_section_that_is_not_there_is_an_error(self) -> None:
        with self.assertRaisesRegex(PageError, "no section 'Elsewhere'"):
            steps(PAGE, "Elsewhere")


class Outputs(unittest.TestCase):
    """An output is compared with what the page shows."""

    def test_spaces_and_dots_stand_for_any_and_the_rest_for_itself(self) -> None:
        shown = Step(Kind.OUTPUT, 1, "a is …\nup (1)\n")
        for output, is_shown in {
            "a is new\nup (1)\n": True,
            "first\na   is  new and\nmore\n\tup (1), last": True,
            "a is new\nup 1\n": False,
            "up (1)\na is new\n": False,
        }.items():
            with self.subTest(output):
                self.assertEqual(is_shown, shown.is_in(output))
