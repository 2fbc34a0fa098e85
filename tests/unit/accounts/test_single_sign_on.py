"""Which words of a provider are believed, whom they make a member of what, and which settings stop the start."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from accounts.models import AuditEntry, Membership, User, Workspace
from accounts.single_sign_on import memberships
from accounts.single_sign_on.adapter import free_username
from accounts.single_sign_on.rules import GroupRule, groups_in, in_one, issuer_problem, parse_groups, wanted_roles
from accounts.single_sign_on.tokens import Untrue, verify
from tests.factories import make_user

KEY, OTHER = (rsa.generate_private_key(65537, 2048) for _ in range(2))
ISSUER = "https://login.example.org"


def keys(*named: tuple[Any, str | None]) -> dict[str, Any]:
    found = []
    for key, name in named or ((KEY, "one"),):
        found.append(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"alg": "RS256"})
        if name:
            found[-1]["kid"] = name
    return {"keys": found}


def token(key: Any = KEY, alg: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": "berth", "sub": "1", "nonce": "n", "iat": now, "exp": now + 7200}
    content = {name: value for name, value in (usual | claims).items() if value is not None}
    return jwt.encode(content, key, algorithm=alg, headers={"kid": kid} if kid else {})


def check(text: object, known: Any = None) -> dict[str, Any]:
    return verify(text, keys=keys() if known is None else known, issuer=ISSUER, client_id="berth", nonce="n")


# ---- tokens -----------------------------------------------------------------------------------------------


def test_a_good_token_is_believed() -> None:
    assert check(token())["sub"] == "1"


@pytest.mark.parametrize(
    ("known", "kid"),
    [(keys((OTHER, "old"), (KEY, "one")), "one"), (keys((OTHER, None), (KEY, None)), None), (keys((KEY, None)), None)],
    ids=["two keys", "two without names", "one without a name"],
)
def test_the_key_is_found(known: dict[str, Any], kid: str | None) -> None:
    assert check(token(kid=kid), known)


@pytest.mark.parametrize("seconds", [-50, 50])
def test_clocks_may_differ_by_a_minute(seconds: int) -> None:
    now = int(time.time())

    assert check(token(iat=now + seconds, nbf=now + seconds, exp=now - 50))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (token(exp=int(time.time()) - 120), "do the clocks"),
        (token(iat=int(time.time()) + 3600), "do the clocks"),
        (token(iss="https://login.example.org/"), "another issuer"),
        (token(aud="another"), "another client"),
        (token(aud=["berth", "another"]), "azp"),
        (token(aud=["berth", "another"], azp="another"), "azp"),
        (token(nonce="another"), "nonce"),
        (token(nonce=None), "nonce"),
        (token(sub=None), "lacks a claim"),
        (token(sub=""), "names nobody"),
        (token(sub="x" * 192), "names nobody"),
        (token(sub="a\0b"), "names nobody"),
        (token(exp=None), "lacks a claim"),
        (token(key=OTHER), "signature"),
        (token(kid="unknown"), "no key"),
        (token(key="s" * 64, alg="HS256"), "proves nothing"),
        (jwt.encode({"sub": "1"}, "", algorithm="none"), "proves nothing"),
        (token()[:-6] + "AAAAAA", "signature"),
        ("nonsense", "cannot be read"),
        ("", "cannot be read"),
        (None, "no ID token"),
        ({"a": 1}, "no ID token"),
    ],
)
def test_any_other_is_not(text: object, sentence: str) -> None:
    with pytest.raises(Untrue, match=sentence):
        check(text)


@pytest.mark.parametrize("known", [{}, {"keys": []}, {"keys": "x"}, {"keys": [{}]}, [], "x"])
def test_keys_that_are_none_prove_nothing(known: Any) -> None:
    with pytest.raises(Untrue):
        check(token(), known)


def test_the_providers_public_key_is_no_secret_to_sign_with() -> None:
    """Else anybody could sign (CVE-2016-10555)."""
    header = jwt.utils.base64url_encode(b'{"alg":"HS256","kid":"one"}').decode()
    with pytest.raises(Untrue, match="proves nothing"):
        check(f"{header}.{token().split('.')[1]}.{token().split('.')[2]}")


# ---- rules ------------------------------------------------------------------------------------------------


def test_the_groups_of_the_settings_are_read() -> None:
    assert parse_groups(" a=Physics lab:member , b/c=x:y:owner,, ") == (
        GroupRule("a", "Physics lab", "member"),
        GroupRule("b/c", "x:y", "owner"),
    )


@pytest.mark.parametrize(
    "text", ["a", "a=b", "=b:member", "a=:member", "a=b:boss", f"a={'x' * 81}:member", "a=\x07:member"]
)
def test_groups_that_are_none_are_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be GROUP|names the role|names a workspace"):
        parse_groups(text)


@pytest.mark.parametrize(
    ("claims", "groups"),
    [
        ({"g.x": ["b", "a", "a"]}, ["a", "b"]),
        ({"g": {"x": ["a"]}}, ["a"]),
        ({"g.x": "a"}, ["a"]),
        ({"g": ["x"]}, []),
        ({"g.x": {"a": 1}}, []),
        ({"g.x": [1, None, {"a": 1}, "a"]}, ["a"]),
        ({}, []),
    ],
)
def test_groups_are_found_in_what_a_provider_tells(claims: dict[str, Any], groups: list[str]) -> None:
    assert groups_in(claims, "g.x") == groups


@pytest.mark.parametrize(
    ("claims", "more", "confirmed"),
    [
        ({"email": "a", "email_verified": True}, {}, True),
        ({"email": "a", "email_verified": True}, {"email": "a"}, True),
        ({"email": "a"}, {"email": "a", "email_verified": True}, True),
        ({"email": "a", "email_verified": True}, {"email": "a", "email_verified": False}, False),
        ({"email": "a", "email_verified": True}, {"email": "b"}, None),
        ({"email": "a"}, {"email_verified": True}, None),
        ({"email": "a", "email_verified": False}, {"email_verified": True}, False),
        ({"email_verified": True}, {"email": "b"}, None),
    ],
)
def test_only_the_address_that_was_confirmed_is(
    claims: dict[str, Any], more: dict[str, Any], confirmed: bool | None
) -> None:
    assert in_one(claims, more).get("email_verified") is confirmed


def test_the_strongest_role_counts() -> None:
    rules = parse_groups("a=lab:manager,b=lab:member,c=lab:owner,b=club:member")

    assert wanted_roles(rules, ["a", "b"]) == {"lab": "manager", "club": "member"}


@pytest.mark.parametrize(
    ("issuer", "good"),
    [
        ("https://login.example.org/realms/x", True),
        ("http://login.example.org", False),
        ("login.example.org", False),
        ("https://", False),
        ("https://a@login.example.org", False),
        ("https://login.example.org?x", False),
        (f"https://login.example.org/{'x' * 200}", False),
    ],
)
def test_what_an_issuer_is(issuer: str, good: bool) -> None:
    assert (issuer_problem(issuer, plain_http=False) == "") is good


# ---- user names -------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("wished", "name"),
    [
        ("marie", "marie"),
        ("Marie Curie", "Marie-Curie"),
        ("Zoë", "Zoe"),
        ("…", "user"),
        ("", "user"),
        ("x" * 500, "x" * 34),
        ("DOMAIN\\marie", "DOMAIN-marie"),
        ("marie@example.org", "marie-example.org"),
        ("deleted-7", "user"),
        ("Ada", "Ada2"),
        ("🔑" * 500, "user"),
        ("a\0b", "a-b"),
    ],
)
def test_a_user_name_is_made_of_what_the_provider_says(wished: str, name: str) -> None:
    make_user("ada")

    assert free_username(wished) == name


# ---- memberships ------------------------------------------------------------------------------------------


@pytest.fixture
def root() -> User:
    return make_user("root", is_superuser=True, is_staff=True)


@pytest.fixture
def rules(settings: Any) -> None:
    settings.BERTH_OIDC_GROUPS = parse_groups("member=lab:member,manager=lab:manager,owner=lab:owner")
    settings.BERTH_OIDC_ADMIN_GROUP = ""


def role(user: User) -> str | None:
    found = Membership.objects.filter(workspace__directory_name="lab", user=user).first()
    return found.role if found else None


@pytest.mark.django_db
@pytest.mark.usefixtures("rules")
class TestMemberships:
    def test_whoever_is_in_no_group_makes_no_workspace(self) -> None:
        memberships.follow(user=make_user(), groups=["another"])

        assert not Workspace.objects.filter(directory_name="lab").exists()

    def test_an_owner_of_the_group_needs_no_admin_in_it(self, root: User) -> None:
        ada = make_user()

        memberships.follow(user=ada, groups=["owner", "member"])

        assert (role(ada), role(root)) == ("owner", None)

    def test_a_workspace_of_the_same_name_is_somebody_elses(self, root: User) -> None:
        """Else whoever takes the name first would see what the group books."""
        eve, ada = make_user("eve"), make_user("ada")
        trap = Workspace.objects.create(name="lab")
        Membership.objects.create(workspace=trap, user=eve, role="owner")

        memberships.follow(user=ada, groups=["member"])

        assert not Membership.objects.filter(workspace=trap, user=ada).exists()
        assert role(ada) == "member"

    @pytest.mark.parametrize("groups", [["member"], ["owner"], []])
    def test_whom_somebody_invited_stays(self, groups: list[str], root: User) -> None:
        memberships.follow(user=make_user(), groups=["member"])
        guest = make_user()
        lab = Workspace.objects.get(directory_name="lab")
        Membership.objects.create(workspace=lab, user=guest, role="manager")

        memberships.follow(user=guest, groups=groups)
        memberships.follow(user=guest, groups=[])

        assert role(guest) == "manager"

    def test_who_owns_it_for_want_of_an_admin_does_so_until_there_is_another_owner(self) -> None:
        ada, bob = make_user(), make_user()
        memberships.follow(user=ada, groups=["member"])
        assert role(ada) == "owner"

        memberships.follow(user=bob, groups=["owner"])
        memberships.follow(user=ada, groups=["member"])

        assert (role(ada), role(bob)) == ("member", "owner")

    def test_other_workspaces_are_not_touched(self, root: User) -> None:
        ada = make_user()
        club = Workspace.objects.create(name="club", directory_name="club")
        Membership.objects.create(workspace=club, user=ada, role="member", by_directory=True)

        memberships.follow(user=ada, groups=[])

        assert Membership.objects.filter(workspace=club, user=ada).exists()
        assert Membership.objects.filter(workspace__personal_of=ada).exists()

    @pytest.mark.parametrize("groups", [[], ["member"]])
    def test_the_last_owner_stays(self, groups: list[str], caplog: pytest.LogCaptureFixture) -> None:
        ada = make_user()
        memberships.follow(user=ada, groups=["owner"])

        memberships.follow(user=ada, groups=groups)

        assert role(ada) == "owner"
        assert "stays the owner" in caplog.text

    def test_an_owner_who_is_not_the_last_goes(self) -> None:
        ada, bob = make_user(), make_user()
        memberships.follow(user=ada, groups=["owner"])
        memberships.follow(user=bob, groups=["owner"])

        memberships.follow(user=ada, groups=["member"])

        assert (role(ada), role(bob)) == ("member", "owner")

    def test_what_is_as_it_should_be_is_not_noted_again(self, root: User) -> None:
        ada = make_user()
        memberships.follow(user=ada, groups=["member"])
        before = AuditEntry.objects.count()

        memberships.follow(user=ada, groups=["member"])

        assert AuditEntry.objects.count() == before

    def test_nobody_is_let_into_a_workspace_that_was_closed(self, root: User) -> None:
        from django.utils import timezone

        memberships.follow(user=make_user(), groups=["member"])
        Workspace.objects.filter(directory_name="lab").update(closed_at=timezone.now())
        ada = make_user()

        memberships.follow(user=ada, groups=["member"])

        assert role(ada) is None

    def test_whom_the_group_made_an_admin_is_none_without_it_password_or_not(self, settings: Any) -> None:
        settings.BERTH_OIDC_ADMIN_GROUP = "operators"
        ada = make_user()
        assert ada.has_usable_password()

        memberships.follow(user=ada, groups=["operators"])
        assert User.objects.get(pk=ada.pk).is_superuser
        memberships.follow(user=User.objects.get(pk=ada.pk), groups=[])
        assert not User.objects.get(pk=ada.pk).is_superuser

        # Somebody of the installation makes them one again: that is not the group's to take.
        User.objects.filter(pk=ada.pk).update(is_staff=True, is_superuser=True)
        memberships.follow(user=User.objects.get(pk=ada.pk), groups=[])
        assert User.objects.get(pk=ada.pk).is_superuser

    def test_an_admin_with_a_password_of_here_stays_one(self, root: User, settings: Any) -> None:
        settings.BERTH_OIDC_ADMIN_GROUP = "operators"

        memberships.follow(user=root, groups=[])

        root.refresh_from_db()
        assert root.is_superuser
