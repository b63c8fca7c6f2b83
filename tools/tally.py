"""Adds up one JUnit file, from ctest or pytest: prints "passed failed skipped".

usage: tally.py EXIT_STATUS FILE.xml

A ctest case that is a cmocka program counts as the tests that it ran; any other case counts as one. A step
that ended with an error although no test failed counts as one failure: nothing red may add up to green.
"""
import re
import sys
import xml.etree.ElementTree as ET


def cmocka_counts(output: str) -> tuple[int, int, int] | None:
    """What the programs' own summaries say, or None where the output has none."""
    counts = []
    for word in ("PASSED", "FAILED", "SKIPPED"):
        found = re.findall(rf"^\[  {word}\s+\] (\d+) test\(s\)", output, re.M)
        counts.append(sum(map(int, found)))
    return (counts[0], counts[1], counts[2]) if "[==========]" in output else None


def tally(status: int, path: str) -> tuple[int, int, int]:
    passed = failed = skipped = 0
    for case in ET.parse(path).getroot().iter("testcase"):
        broken = case.find("failure") is not None or case.find("error") is not None
        broken |= case.get("status") == "fail"
        own = cmocka_counts(case.findtext("system-out") or "")
        if own:
            passed, failed, skipped = passed + own[0], failed + own[1], skipped + own[2]
            failed += broken and own[1] == 0
        elif broken:
            failed += 1
        elif case.find("skipped") is not None or case.get("status") in ("disabled", "notrun"):
            skipped += 1
        else:
            passed += 1
    if status != 0 and failed == 0:
        failed = 1
    return passed, failed, skipped


if __name__ == "__main__":
    print(*tally(int(sys.argv[1]), sys.argv[2]))
