"""How commands print what was found: a heading for each view and for the pair, and a line or more for each finding."""

from __future__ import annotations

import textwrap

from crosspol.checks.findings import Finding
from crosspol.checks.report import Report

__all__ = ["as_text"]

_MARKS = {"right": "ok", "wrong": "WRONG", "unsure": "?"}
_WIDTH = 110
_INDENT = 24


def as_text(report: Report, explain: bool = False) -> str:
    """Return the report as lines of at most 110 characters.

    Args:
        report: what was found.
        explain: say on lines of their own what a finding means for the result and what to do.
    """
    lines = []
    for view, findings in report.findings.items():
        if view in report.names:
            height, width = report.frames[view].size
            lines.append(f"{view}: {report.names[view]}, {width}x{height} px")
        else:
            lines.append(f"{view}:")
        for finding in findings:
            lines += _finding(finding, explain)
    return "\n".join(lines)


def _finding(finding: Finding, explain: bool) -> list[str]:
    lead = f"  {_MARKS[finding.verdict]:<6} {finding.topic:<14} "
    if not explain:
        return _wrapped(lead, finding.text)
    lines = _wrapped(lead, finding.found)
    for word, text in (("means", finding.consequence), ("do", finding.do)):
        if text:
            lines += _wrapped(" " * _INDENT + f"{word}: ", text)
    return lines


def _wrapped(lead: str, text: str) -> list[str]:
    wide = _WIDTH - len(lead)
    wrapped = textwrap.wrap(text, wide, break_long_words=False, break_on_hyphens=False) or [""]
    return [lead + wrapped[0], *(" " * len(lead) + line for line in wrapped[1:])]
