"""The patient is identified: the token was issued for one person (IEF A4.1)."""

from __future__ import annotations

from mdg.access.rules.rule import Answer, Request, allow, refuse


class PatientIdentified:
    """A token without a patient opens no patient's data (spec/access 1.3)."""

    name = "patient_identified"

    def judge(self, request: Request) -> Answer:
        if request.subject.patient is None:
            return refuse("the token names no patient")
        return allow("the token names a patient")
