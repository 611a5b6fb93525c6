"""Add up the test reports in a folder, and close with one line of counts."""

import sys
from pathlib import Path
from xml.etree import ElementTree


def main(folder: Path) -> int:
    """Print the counts of every JUnit report in *folder*; 1 if a test failed or none ran."""
    total, bad, skipped = 0, 0, 0
    for report in sorted(folder.glob("*.xml")):
        for suite in ElementTree.parse(report).iter("testsuite"):
            total += int(suite.get("tests", 0))
            bad += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped += int(suite.get("skipped", 0))
    print(f"{total - bad - skipped} passed, {bad} failed, {skipped} skipped")
    return 1 if bad or not total else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
