"""A first look at a payload: is it certain to hold no secret, so that redaction would leave it as it is?

It asks for less than the prefilter of redaction does, without its expressions, which take time to compile: any text
that the prefilter would look at more closely does not pass here. A test holds the two together.
"""

from __future__ import annotations

_CHARACTERS = frozenset("\t\r\n@~=%>'\\&$")
#: The prefixes of tokens (eventlog.record.redaction.tokens) that end in one of `_-.`, and the beginnings of the others.
_TOKENS = (
    "API- CCDB1_ CCIPAT_ CFPAT- CLOJARS_ FLWSECK- FLWSECK_TEST- GOCSPX- HRKU- NRAK- NRAL- NRII- NRJS- PMAK- SG. "
    "access-production- access-sandbox- api_org_ apify_api_ bb_live_ bedrock-api-key- bkua_ dckr_oat_ dckr_pat_ "
    "doo_v1_ dop_v1_ dor_v1_ dp.audit. dp.ct. dp.pt. dp.sa. dp.scim. dp.st. dt0c01. duffel_live_ e2b_ evk_ fc- figd_ "
    "fio-u- fm1a_ fm1r_ fm2_ fo1_ fw_ gho_ ghp_ ghr_ ghs_ ghu_ github_pat_ glagent- glc_ glcbt- gldt- glffct- glft- "
    "glimt- gloas- glpat- glptt- glrt- glrtr- glsa_ glsoat- glwt- gsk_ hf_ hvb. hvr. hvs. jina_ key- lin_api_ "
    "lin_oauth_ llx- lsv2_pt_ lsv2_sk_ mdb_sa_sk_ napi_ nfp_ npm_ ntn_ nvapi- pa- pcsk_ phx_ pk-lf- pnb_ pnu_ pplx- "
    "pscale_oauth_ pscale_pw_ pscale_tkn_ pul- pypi- r8_ rdme_ rk_live_ rk_prod_ rk_test_ rnd_ rubygems_ rzp_live_ "
    "sb_secret_ sbp_ sdk- secret_ sgp_ shippo_live_ shpat_ shpca_ shppa_ shpss_ sk- sk_ sk_live_ sk_prod_ sk_test_ "
    "sl. sntrys_ sntryu_ sq0atp- sq0csp- sqa_ sqp_ squ_ tfp_ tgp_v1_ tk-us- tskey- tvly- vck_ vcp_ wandb_v1_ whsec_ "
    "xai- xapp- xkeysib- xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs- xsmtpsib- ya29. AKI ASI ABI ACC AIz "
    "AKC ABS AQV ATA ATC ATB ATT AGE-S EAA :AA LTAI EZAK eyJ CRUdJ BOT SK dapi atlasv1"
).split()
#: The ends of names whose value may be a secret, and words in front of one; in lower case.
_NAMES = (
    "word sswd swds pwd pass rase code odes cret rets key oken zation auth ials reds okie kies otp data base alue ture "
    "sig cket kty bearer basic"
).split()
#: The same, before a digit.
_BEFORE_DIGITS = ("ord", "rd_", "rd-", "ken", "ret")
#: Options of programs, addresses, and colons that no JSON has between a name and its value.
_SIGNS = (" -", '"-', ",-", "---", "//", "/pass:", " :", ":  ", ":54", "is:", "Bot ")
_LONG_CHARS = 20


def is_plain(text: str) -> bool:
    """Say whether redaction is certain to leave a JSON text as it is."""
    lower = text.lower()
    return (
        _CHARACTERS.isdisjoint(text)
        and not any(name in lower for name in _NAMES)
        and not any(sign in text for sign in _SIGNS)
        and not any(token in text for token in _TOKENS)
        and not any(name in lower and _is_before_digit(lower, name) for name in _BEFORE_DIGITS)
        and not any(_is_long(part) for part in text.split(".")[1:])
    )


def _is_before_digit(lower: str, name: str) -> bool:
    return any(part[:1].isdigit() for part in lower.split(name)[1:])


def _is_long(part: str) -> bool:
    start = part[:_LONG_CHARS]
    return len(start) == _LONG_CHARS and start.replace("-", "_").replace("_", "a").isalnum()
