"""Whether an ID token is true: signature, issuer, audience, time and nonce (OpenID Connect Core, section 3.1.3.7)."""

import hmac
from collections.abc import Mapping
from typing import Any

import jwt
from allauth.socialaccount.providers.oauth2.client import OAuth2Error

LEEWAY_S = 60  # what two clocks may differ
LONGEST_SUBJECT = 191  # as allauth keeps it; the standard allows 255
# Signed with a key of the provider's own. None that a client secret could make, and not "none".
ALGORITHMS = [f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)] + ["EdDSA"]


class Untrue(OAuth2Error):  # type: ignore[misc]  # allauth has no types
    """The provider's answer cannot be believed; the text is for the log and the page."""


def verify(token: object, *, keys: object, issuer: str, client_id: str, nonce: str) -> dict[str, Any]:
    """The claims of the token. Raises Untrue."""
    if not isinstance(token, str):
        raise Untrue("there is no ID token in the answer: is openid among the scopes?")
    problem: Exception | None = None
    for key in _candidates(token, keys):
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=client_id,
                issuer=issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
            raise Untrue("the ID token is not good at this time: do the clocks of both machines agree?") from None
        except jwt.MissingRequiredClaimError as lack:
            raise Untrue(f"the ID token lacks a claim ({lack.claim})") from None
        except jwt.InvalidIssuerError:
            raise Untrue("the ID token is of another issuer") from None
        except jwt.InvalidAudienceError:
            raise Untrue("the ID token is for another client") from None
        except (jwt.PyJWTError, ValueError, TypeError) as trouble:
            problem = trouble
        else:
            return _checked(claims, client_id, nonce)
    raise Untrue(f"the ID token's signature is not the provider's ({problem or 'it names no key of the provider'})")


def _checked(claims: dict[str, Any], client_id: str, nonce: str) -> dict[str, Any]:
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise Untrue("the ID token answers another log-in (its nonce is not ours)")
    if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != client_id:
        raise Untrue("the ID token was made for another client (azp)")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        raise Untrue("the ID token names nobody that could be kept (sub)")
    return claims


def _candidates(token: str, keys: object) -> list[Any]:
    """The provider's keys that may have signed it: the one that it names, else all."""
    try:
        header = jwt.get_unverified_header(token)
        known = jwt.PyJWKSet.from_dict(dict(keys) if isinstance(keys, Mapping) else {}).keys
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise Untrue(f"the ID token or the provider's keys cannot be read ({problem})") from None
    if header.get("alg") not in ALGORITHMS:
        raise Untrue(f"the ID token is signed by {str(header.get('alg'))[:20]!r}, which proves nothing")
    named = [key for key in known if "kid" in header and key.key_id == header["kid"]]
    return [key.key for key in (named or ([] if "kid" in header else known))]
