"""tools/tally.py: what ./check's last line counts."""
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.repo
TALLY = Path(__file__).resolve().parents[2] / "tools/tally.py"
CMOCKA = "[==========] 5 test(s) run.\n[  PASSED  ] 3 test(s).\n[  FAILED  ] 1 test(s), listed below:\n" \
         "[  FAILED  ] a\n[  SKIPPED ] 1 test(s), listed below:\n"


@pytest.mark.parametrize("status, cases, counts", [
    (0, '<testcase status="run"/><testcase status="run"/>', "2 0 0"),
    (0, '<testcase status="run"><system-out>hello</system-out></testcase>', "1 0 0"),
    (0, "<testcase><skipped/></testcase><testcase/>", "1 0 1"),
    (1, "<testcase><failure/></testcase><testcase><error/></testcase><testcase/>", "1 2 0"),
    (8, f'<testcase status="fail"><system-out>{CMOCKA}</system-out></testcase>', "3 1 1"),
    # A program that dies after its tests, or a step that fails without a failed test, is never green.
    (8, f'<testcase status="fail"><system-out>{CMOCKA.replace("[  FAILED  ] 1", "[  FAILED  ] 0")}</system-out>'
        "</testcase>", "3 1 1"),
    (3, "<testcase/>", "1 1 0"),
])
def test_tests_are_counted_one_by_one_and_nothing_red_is_green(tmp_path, status, cases, counts):
    path = tmp_path / "x.xml"
    path.write_text(f"<testsuite>{cases}</testsuite>")
    done = subprocess.run([sys.executable, TALLY, str(status), path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == counts.split()
