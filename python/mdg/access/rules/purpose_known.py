"""The purpose of the request is known (IEF A4.4)."""

from __future__ import annotations

from mdg.access.rules.rule import Answer, Request, allow, refuse

PURPOSES = frozenset(
    {
        "TREAT",
        "ETREAT",
        "PATRQT",
        "FAMRQT",
        "PWATRNY",
        "HRESCH",
        "CLINTRCH",
        "PUBHLTH",
        "DISASTER",
        "HOPERAT",
        "HQUALIMP",
        "HPAYMT",
        "COVERAGE",
        "HLEGAL",
        "HSYSADMIN",
    }
)
"""Codes of v3-ActReason that have a meaning here (spec/access 5). HTEST is for test data and has none. BTG breaks
glass: it needs its own trigger and evidence (spec/access 5), which this gateway does not offer yet, and ETREAT never
implies it."""


class PurposeKnown:
    """The purpose is one that the token was issued for, and one that this gateway knows."""

    name = "purpose_known"

    def judge(self, request: Request) -> Answer:
        if request.purpose not in request.subject.purposes:
            return refuse("the purpose is not one of the token's")
        if request.purpose not in PURPOSES:
            return refuse("the purpose is not one that is served here")
        return allow(f"purpose is {request.purpose}")
