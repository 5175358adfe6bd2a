"""Bundle: the answer of a search. Its links say what was searched without saying who (spec/fhir 2.5)."""

from __future__ import annotations

from collections.abc import Sequence

from mdg.fhir import Json


def searchset(
    fhir: str,
    *,
    total: int,
    matches: Sequence[Json],
    included: Sequence[Json] = (),
    outcomes: Sequence[Json] = (),
    self_url: str,
    next_url: str | None = None,
) -> Json:
    """A searchset Bundle; `fhir` is the base URL, `total` counts all matches that the caller may see, on every page.

    Outcomes have no fullUrl: nobody can read them again.
    """
    entries = [_entry(fhir, resource, "match") for resource in matches]
    entries += [_entry(fhir, resource, "include") for resource in included]
    entries += [{"resource": resource, "search": {"mode": "outcome"}} for resource in outcomes]
    links = [{"relation": "self", "url": self_url}]
    if next_url is not None:
        links.append({"relation": "next", "url": next_url})
    bundle: Json = {"resourceType": "Bundle", "type": "searchset", "total": total, "link": links}
    if entries:
        bundle["entry"] = entries
    return bundle


def _entry(fhir: str, resource: Json, mode: str) -> Json:
    url = f"{fhir}/{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}
