from __future__ import annotations

from headgate.accounts.model import Role
from tests.fakes.api import Api
from tests.fakes.people import add_person, open_browser

PEOPLE = "/api/platform/people"


def test_operator_sees_everybody_and_others_do_not(api: Api) -> None:
    operator = open_browser(api, add_person(api, "op@example.com", is_operator=True))
    ada = add_person(api, "ada@example.com", Role.OWNER)
    listed = operator.get(f"{PEOPLE}?limit=1&offset=1").json
    assert (listed["total"], [each["id"] for each in listed["people"]]) == (2, [ada.id])
    assert open_browser(api, ada).get(PEOPLE).status == 403
    assert "password" not in operator.get(PEOPLE).text


def test_operator_does_not_disable_themselves_and_the_last_one_stays(api: Api) -> None:
    first = add_person(api, "op@example.com", is_operator=True)
    second = add_person(api, "op2@example.com", is_operator=True)
    operator = open_browser(api, first)
    assert operator.post(f"{PEOPLE}/{first.id}/disable").status == 409
    assert operator.post(f"{PEOPLE}/{second.id}/disable").status == 200
    assert operator.post(f"{PEOPLE}/{second.id}/disable").status == 200
