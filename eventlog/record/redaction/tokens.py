"""A table of the keys and tokens that their vendors give a prefix.

Most vendors, prefixes and lengths come from the public rule set of gitleaks; the rules here are our own. Each row is
for one prefix, and has a text that it must not match (`innocent`); the text that it must match is made from
the row (`Token.example`). A test runs all rows.
"""

from __future__ import annotations

from typing import NamedTuple

#: The characters behind the prefix, by name, and a sample of each that looks like a real token.
CHARACTERS = {
    "hex": rb"[0-9A-Fa-f]",
    "upper": rb"[A-Z0-9]",
    "letters": rb"[A-Za-z0-9]",
    #: A view has fillers before `\/`, `%2B` and `%2F`.
    "base64": rb"(?:[A-Za-z0-9+/]|\x01++[+/])",
    "url": rb"[A-Za-z0-9_-]",
    "dotted": rb"[A-Za-z0-9_.=-]",
}
_SAMPLES = {
    "hex": "8f14e45fceea167a5a36dedd4bea2543",
    "upper": "J7Q2ZK5TWX3M8R6BN4VC9DH1PGFL0SYA",
    "letters": "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW",
    "base64": "aB3dE5fG7hI9+K1lM3nO/pQ7rS9tU1vW",
    "url": "aB3dE5fG7hI9jK1l-3nO5pQ7_S9tU1vW",
    "dotted": "aB3dE5fG7hI9jK1l-3nO5pQ7_S9tU1vW",
}


class Token(NamedTuple):
    """A row of the table: a prefix, and what follows it."""

    kind: str
    vendor: str
    prefix: str
    characters: str
    #: At least this many characters follow.
    least: int
    #: A similar text that is no token.
    innocent: str
    #: The length is fixed: a longer text is no token.
    exact: bool = False

    @property
    def example(self) -> str:
        """Return a made-up token of this row."""
        return self.prefix + (_SAMPLES[self.characters] * 12)[: self.least if self.exact else self.least + 4]


_WORD = "of_the_user"
TOKENS = (
    Token("api_key", "eventlog", "evk_", "url", 40, "evk_name_of_the_key"),
    # models
    Token("api_key", "OpenAI and others", "sk-", "url", 20, "sk-learn-contrib-imbalanced-learn-0.12"),
    Token("api_key", "ElevenLabs", "sk_", "hex", 40, "sk_buff_and_others_in_the_kernel"),
    Token("api_key", "Langfuse", "pk-lf-", "url", 30, "pk-lf-name"),
    Token("api_key", "Groq", "gsk_", "letters", 20, "gsk_settings_of_the_window_manager"),
    Token("api_key", "xAI", "xai-", "letters", 20, "xai-grok-code-fast-1"),
    Token("api_key", "Perplexity", "pplx-", "letters", 20, "pplx-embed-context-large"),
    Token("api_key", "Tavily", "tvly-", "url", 20, "tvly-python-client-for-search-2"),
    Token("api_key", "NVIDIA", "nvapi-", "url", 30, "nvapi-documentation-of-the-library"),
    Token("api_key", "Replicate", "r8_", "letters", 20, "r8_register_of_the_machine"),
    Token("api_key", "Pinecone", "pcsk_", "url", 20, "pcsk_name_of_key"),
    Token("api_key", "LangSmith", "lsv2_pt_", "url", 24, "lsv2_pt_name"),
    Token("api_key", "LangSmith", "lsv2_sk_", "url", 24, "lsv2_sk_name"),
    Token("api_key", "Weights & Biases", "wandb_v1_", "url", 24, "wandb_v1_client_of_the_library_for_runs"),
    Token("api_key", "Fireworks", "fw_", "letters", 20, "fw_setenv_of_the_firmware_loader"),
    Token("api_key", "Together", "tgp_v1_", "url", 24, "tgp_v1_name"),
    Token("api_key", "Jina", "jina_", "url", 32, "jina_embeddings_of_the_third_generation"),
    Token("api_key", "LlamaCloud", "llx-", "letters", 30, "llx-name"),
    Token("api_key", "Firecrawl", "fc-", "hex", 32, "fc-cache", exact=True),
    Token("api_key", "E2B", "e2b_", "hex", 32, "e2b_sandbox_of_code"),
    Token("api_key", "Apify", "apify_api_", "letters", 30, "apify_api_client"),
    Token("api_key", "Browserbase", "bb_live_", "url", 20, "bb_live_session_of_the_browser"),
    Token("api_key", "Voyage", "pa-", "url", 40, "pa-rt-ner"),
    Token("huggingface_token", "Hugging Face", "hf_", "letters", 20, "hf_transfer_2026"),
    Token("huggingface_token", "Hugging Face organisations", "api_org_", "letters", 30, "api_org_members"),
    # code, packages, continuous integration
    *(Token("github_token", "GitHub", f"gh{part}_", "url", 20, f"gh{part}_{_WORD}") for part in "pousr"),
    Token("github_token", "GitHub, fine-grained", "github_pat_", "url", 20, "github_pat_of_the_user_that_asked"),
    *(
        Token("gitlab_token", "GitLab", f"gl{part}-", "dotted", 20, f"gl{part}-token-of-the-user-that-asked")
        for part in ("pat", "dt", "rt", "ptt", "ft", "imt", "agent", "oas", "soat", "cbt", "ffct", "rtr", "wt")
    ),
    Token("npm_token", "npm", "npm_", "letters", 20, "npm_config_registry_for_node_20"),
    Token("pypi_token", "PyPI", "pypi-", "url", 20, "pypi-attestations-0.0.12-py3-none-any"),
    Token("access_token", "RubyGems", "rubygems_", "hex", 40, "rubygems_version"),
    Token("access_token", "Docker Hub", "dckr_pat_", "url", 20, "dckr_pat_name"),
    Token("access_token", "Docker Hub organisations", "dckr_oat_", "url", 20, "dckr_oat_name"),
    Token("access_token", "Clojars", "CLOJARS_", "letters", 50, "CLOJARS_USERNAME"),
    Token("access_token", "JFrog", "AKCp", "letters", 60, "AKCpName"),
    Token("access_token", "CircleCI", "CCIPAT_", "url", 30, "CCIPAT_NAME"),
    Token("access_token", "Buildkite", "bkua_", "hex", 40, "bkua_name"),
    Token("access_token", "Sonar", "squ_", "hex", 40, "squ_are"),
    Token("access_token", "Sonar", "sqp_", "hex", 40, "sqp_name"),
    Token("access_token", "Sonar", "sqa_", "hex", 40, "sqa_name"),
    Token("access_token", "Sourcegraph", "sgp_", "url", 40, "sgp_name"),
    Token("access_token", "Postman", "PMAK-", "url", 30, "PMAK-NAME"),
    Token("access_token", "Octopus Deploy", "API-", "upper", 25, "API-DOCUMENTATION"),
    Token("access_token", "ReadMe", "rdme_", "letters", 60, "rdme_name"),
    # clouds
    *(
        Token("aws_key_id", "AWS", part, "upper", 16, f"{part} and others", exact=True)
        for part in ("AKIA", "ASIA", "ABIA", "ACCA")
    ),
    Token("api_key", "AWS Bedrock", "ABSK", "base64", 100, "ABSKETCH"),
    Token("api_key", "AWS Bedrock", "bedrock-api-key-", "base64", 30, "bedrock-api-key-name"),
    Token("google_key", "Google", "AIza", "url", 35, "AIza and others", exact=True),
    Token("google_token", "Google", "ya29.", "url", 20, "ya29. and others"),
    Token("google_token", "Google, refresh", "1//0", "url", 24, "1//0x10"),
    Token("google_token", "Google, clients", "GOCSPX-", "url", 20, "GOCSPX-NAME"),
    *(Token("access_token", "DigitalOcean", f"do{part}_v1_", "hex", 40, f"do{part}_v1_name") for part in "por"),
    Token("access_token", "Alibaba", "LTAI", "letters", 16, "LTAI and others"),
    Token("access_token", "Tencent", "AKID", "letters", 32, "AKID and others"),
    Token("access_token", "Yandex", "AQVN", "url", 35, "AQVN and others"),
    Token("access_token", "Heroku", "HRKU-", "url", 30, "HRKU-NAME"),
    Token("access_token", "Netlify", "nfp_", "letters", 30, "nfp_name"),
    Token("access_token", "Render", "rnd_", "letters", 20, "rnd_generator_of_numbers"),
    Token("access_token", "Vercel", "vcp_", "letters", 20, "vcp_name"),
    Token("access_token", "Vercel", "vck_", "letters", 20, "vck_name"),
    Token("access_token", "Fly", "fo1_", "url", 40, "fo1_name"),
    Token("access_token", "Fly", "fm1a_", "base64", 60, "fm1a_name"),
    Token("access_token", "Fly", "fm1r_", "base64", 60, "fm1r_name"),
    Token("access_token", "Fly", "fm2_", "base64", 60, "fm2_name"),
    Token("access_token", "Pulumi", "pul-", "hex", 40, "pul-ley"),
    Token("access_token", "Scalingo", "tk-us-", "url", 40, "tk-us-name"),
    Token("access_token", "Tailscale", "tskey-", "url", 20, "tskey-auth-name"),
    Token("access_token", "Dynatrace", "dt0c01.", "dotted", 60, "dt0c01.name"),
    # data
    Token("access_token", "Databricks", "dapi", "hex", 32, "dapi and others"),
    *(
        Token("access_token", "PlanetScale", f"pscale_{part}_", "dotted", 30, f"pscale_{part}_name")
        for part in ("tkn", "oauth", "pw")
    ),
    Token("access_token", "Supabase", "sbp_", "hex", 40, "sbp_name"),
    Token("access_token", "Supabase", "sb_secret_", "url", 20, "sb_secret_name_of_the_project"),
    Token("access_token", "Neon", "napi_", "letters", 40, "napi_create_reference_of_the_engine"),
    Token("access_token", "MongoDB Atlas", "mdb_sa_sk_", "url", 30, "mdb_sa_sk_name"),
    Token("access_token", "CockroachDB", "CCDB1_", "url", 40, "CCDB1_NAME"),
    Token("access_token", "Prefect", "pnu_", "letters", 30, "pnu_name"),
    Token("access_token", "Prefect", "pnb_", "letters", 30, "pnb_name"),
    Token("access_token", "PostHog", "phx_", "letters", 30, "phx_name"),
    # secrets of secret stores
    *(Token("access_token", "Vault", f"hv{part}.", "url", 24, f"hv{part}.name") for part in "sbr"),
    *(
        Token("access_token", "Doppler", f"dp.{part}.", "letters", 40, f"dp.{part}.name")
        for part in ("pt", "st", "ct", "sa", "scim", "audit")
    ),
    Token("access_token", "1Password", "ops_eyJ", "base64", 40, "ops_eyJ and others"),
    Token("private_key", "age", "AGE-SECRET-KEY-1", "upper", 50, "AGE-SECRET-KEY-1 and others"),
    # talk
    *(Token("slack_token", "Slack", f"xox{part}-", "url", 10, f"xox{part}-name of it") for part in "abcdeoprs"),
    Token("slack_token", "Slack, apps", "xapp-", "url", 20, "xapp-name-of-the-application"),
    Token("api_key", "SendGrid", "SG.", "dotted", 40, "SG. eyes"),
    Token("api_key", "Mailgun", "key-", "hex", 32, "key-value", exact=True),
    Token("api_key", "Brevo", "xkeysib-", "url", 60, "xkeysib-name"),
    Token("api_key", "Brevo", "xsmtpsib-", "url", 60, "xsmtpsib-name"),
    # money and shops
    *(
        Token("stripe_key", "Stripe", f"{kind}k_{mode}_", "url", 10, f"{kind}k_{mode}_mode")
        for kind in "sr"
        for mode in ("live", "test", "prod")
    ),
    Token("webhook_secret", "Stripe and others", "whsec_", "base64", 20, "whsec_name"),
    *(
        Token("access_token", "Shopify", f"shp{part}_", "hex", 32, f"shp{part}_name")
        for part in ("at", "ca", "pa", "ss")
    ),
    Token("access_token", "Square", "sq0atp-", "url", 20, "sq0atp-name"),
    Token("access_token", "Square", "sq0csp-", "url", 20, "sq0csp-name"),
    Token("access_token", "Square", "EAAA", "url", 56, "EAAA and others"),
    Token("access_token", "Facebook", "EAAC", "letters", 80, "EAAC and others"),
    Token("access_token", "Facebook", "EAAM", "letters", 80, "EAAM and others"),
    Token("access_token", "Razorpay", "rzp_live_", "letters", 14, "rzp_live_mode"),
    Token("access_token", "Flutterwave", "FLWSECK_TEST-", "letters", 12, "FLWSECK_TEST-NAME"),
    Token("access_token", "Flutterwave", "FLWSECK-", "letters", 12, "FLWSECK-NAME"),
    Token("access_token", "Shippo", "shippo_live_", "hex", 40, "shippo_live_mode"),
    Token("access_token", "EasyPost", "EZAK", "letters", 50, "EZAK and others"),
    Token("access_token", "Duffel", "duffel_live_", "url", 40, "duffel_live_mode"),
    Token("access_token", "Plaid", "access-production-", "url", 30, "access-production-name"),
    Token("access_token", "Plaid", "access-sandbox-", "url", 30, "access-sandbox-name"),
    # work
    Token("access_token", "Linear", "lin_api_", "letters", 20, "lin_api_version"),
    Token("access_token", "Linear", "lin_oauth_", "letters", 20, "lin_oauth_version"),
    Token("access_token", "Notion", "ntn_", "letters", 30, "ntn_name"),
    Token("access_token", "Notion", "secret_", "letters", 43, "secret_name", exact=True),
    Token("access_token", "Figma", "figd_", "url", 20, "figd_name"),
    Token("access_token", "Atlassian", "ATATT3", "dotted", 40, "ATATT3 and others"),
    Token("access_token", "Atlassian", "ATCTT3", "dotted", 40, "ATCTT3 and others"),
    Token("access_token", "Bitbucket", "ATBB", "letters", 28, "ATBB and others"),
    Token("access_token", "Trello", "ATTA", "hex", 60, "ATTACHED and others"),
    Token("access_token", "Typeform", "tfp_", "dotted", 40, "tfp_name"),
    Token("access_token", "Contentful", "CFPAT-", "url", 40, "CFPAT-NAME"),
    Token("access_token", "Frame.io", "fio-u-", "url", 40, "fio-u-name"),
    Token("access_token", "Dropbox", "sl.", "dotted", 60, "sl.name"),
    Token("access_token", "LaunchDarkly", "sdk-", "url", 36, "sdk-for-the-web-and-all-that-is-near-it"),
    # what is watched
    Token("access_token", "Grafana", "glsa_", "url", 30, "glsa_name"),
    Token("access_token", "Grafana", "glc_", "base64", 30, "glc_name"),
    Token("access_token", "Grafana", "eyJrIjoi", "base64", 60, "eyJrIjoi and others"),
    Token("access_token", "Sentry", "sntrys_", "base64", 30, "sntrys_name"),
    Token("access_token", "Sentry", "sntryu_", "hex", 60, "sntryu_name"),
    *(
        Token("access_token", "New Relic", f"NR{part}-", "letters", 19, f"NR{part}-NAME")
        for part in ("AK", "II", "JS", "AL")
    ),
)
