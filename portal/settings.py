"""Settings: everything that differs between installations comes from the environment (docs/settings.md)."""

from urllib.parse import unquote, urlsplit

import dj_database_url
import django_stubs_ext

from accounts.single_sign_on import rules
from administration.theme import UNFOLD as ADMIN_THEME
from monitoring.alerts.webhook import is_address
from portal import env, logs
from portal.env import ROOT

django_stubs_ext.monkeypatch()

BASE_DIR = ROOT
DEBUG = env.flag("BERTH_DEBUG")
TESTING = env.flag("BERTH_TESTING")
SECRET_KEY = env.text("SECRET_KEY")
if len(SECRET_KEY) < 32:
    raise env.BadSetting("SECRET_KEY", "must have at least 32 characters; it signs sessions and seals credentials")

# ---- where the portal is ----------------------------------------------------------------------------------
BERTH_BASE_URL = env.text("BERTH_BASE_URL", "http://127.0.0.1:8000").rstrip("/")
_base = urlsplit(BERTH_BASE_URL)
if _base.scheme not in {"http", "https"} or not _base.hostname:
    raise env.BadSetting("BERTH_BASE_URL", f"must look like https://berth.example.org, not {BERTH_BASE_URL!r}")
ALLOWED_HOSTS = env.words("BERTH_ALLOWED_HOSTS") or [_base.hostname, "localhost", "127.0.0.1"]
CSRF_TRUSTED_ORIGINS = [BERTH_BASE_URL]
INSECURE_HTTP = env.flag("BERTH_INSECURE_HTTP")  # the lab on one machine; everybody else has https in front
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not INSECURE_HTTP
SECURE_SSL_REDIRECT = not INSECURE_HTTP
SECURE_HSTS_SECONDS = 0 if INSECURE_HTTP else 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not INSECURE_HTTP
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
if not INSECURE_HTTP:  # a browser takes these from https and from this very host only; ports share cookies
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-berth-session", "__Host-berth-csrf"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
TRUSTED_PROXIES = env.whole("BERTH_TRUSTED_PROXIES", 0, 0, 10)
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXIES
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
FILE_UPLOAD_HANDLERS: list[str] = []  # nothing takes files, so none is written to the disk
WHITENOISE_ALLOW_ALL_ORIGINS = False

# ---- apps -------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "accounts.apps.AccountsConfig",  # before allauth and admin: its templates win
    "portal.apps.PortalConfig",
    "monitoring.apps.MonitoringConfig",
    "billing.apps.BillingConfig",
    "reservations.apps.ReservationsConfig",
    "compute.apps.ComputeConfig",
    "unfold.apps.BasicAppConfig",
    "administration.apps.BerthAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "django.forms",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "ninja",
]
MIDDLEWARE = [
    "portal.middleware.HeadersMiddleware",
    "portal.tracing.RequestMiddleware",
    "portal.middleware.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "portal.middleware.IntakeMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.TimeZoneMiddleware",
    "accounts.staff.StaffSecondFactorMiddleware",
]
ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.context.site",
            ],
            "builtins": ["portal.templatetags.berth"],
            "libraries": {"crumbs": "administration.crumbs"},  # no app of its own: it stands for Django's admin
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

# ---- database, cache, queue -------------------------------------------------------------------------------
_database_url = env.text("DATABASE_URL")
try:
    DATABASES = {"default": dj_database_url.parse(_database_url)}
except (dj_database_url.ParseError, dj_database_url.UnknownSchemeError, ValueError) as problem:
    raise env.BadSetting("DATABASE_URL", f"cannot be read ({problem})") from None
if DATABASES["default"].get("ENGINE") != "django.db.backends.postgresql":
    raise env.BadSetting("DATABASE_URL", "must name a PostgreSQL database: Berth relies on its exclusion constraints")
DATABASES["default"]["CONN_MAX_AGE"] = None
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
_database = DATABASES["default"].setdefault("OPTIONS", {})
_database["connect_timeout"] = 5
# To compile a query (jit) takes PostgreSQL up to a hundred times as long as any of ours runs.
_database["options"] = f"{_database.get('options', '')} -c jit=off".strip()
if TESTING:  # lets the tests empty the tables that are only ever added to (accounts/migrations/0003)
    _database["options"] += " -c berth.testing=on"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.text("REDIS_URL")
_redis = urlsplit(REDIS_URL)
if _redis.scheme not in {"redis", "rediss", "unix"}:
    raise env.BadSetting("REDIS_URL", "must begin with redis://, rediss:// or unix://")
CACHES = {
    "default": {
        "BACKEND": "portal.cache.ForgivingRedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "berth-test" if TESTING else "berth",
    }
}
if TESTING:
    CACHES["default"] = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "tests"}
SESSION_ENGINE = "django.contrib.sessions.backends.db"  # a flushed Redis logs nobody out

CELERY_BROKER_URL = f"redis+socket://{unquote(_redis.path)}" if _redis.scheme == "unix" else REDIS_URL
CELERY_TASK_IGNORE_RESULT = True  # the row says how it went
CELERY_TASK_ALWAYS_EAGER = False
CELERY_TASK_ACKS_LATE = False  # a task is only a hint; the sweep finds what a lost one would have done
CELERY_TASK_DEFAULT_EXPIRES = 60
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "health_check_interval": 30,
}
CELERY_TASK_PUBLISH_RETRY = False  # Redis down must not hold up a booking
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TIMEZONE = "UTC"

# ---- people -----------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "accounts.backends.EvenBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.BCryptSHA256PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
if TESTING:
    PASSWORD_HASHERS.insert(0, "django.contrib.auth.hashers.MD5PasswordHasher")
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
BERTH_WORKSPACES_PER_USER = env.whole("BERTH_WORKSPACES_PER_USER", 20, 0, 1000)
BERTH_SUPPORT = env.text("BERTH_SUPPORT", "")
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "reservations:list"
ACCOUNT_LOGOUT_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = env.choice("BERTH_EMAIL_VERIFICATION", "mandatory", ("mandatory", "optional", "none"))
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Berth] "
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_PRESERVE_USERNAME_CASING = True
ACCOUNT_USERNAME_MIN_LENGTH = 2
ACCOUNT_USERNAME_VALIDATORS = "accounts.validators.username_validators"
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_DEFAULT_HTTP_PROTOCOL = _base.scheme
ACCOUNT_SESSION_REMEMBER = None
ACCOUNT_RATE_LIMITS = {
    "signup": env.text("BERTH_SIGNUP_RATE", "20/m/ip"),
    "login": "30/m/ip",
    "login_failed": "10/m/ip,5/300s/key",
}
ACCOUNT_PREVENT_ENUMERATION = True
MFA_ADAPTER = "accounts.adapter.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = INSECURE_HTTP  # browsers allow passkeys on http://localhost
MFA_FORMS = {"add_webauthn": "accounts.forms.AddKeyForm"}
SOCIALACCOUNT_ADAPTER = "accounts.single_sign_on.adapter.SocialAdapter"
SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"provider_class": "accounts.single_sign_on.provider.BerthProvider"}}
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True
BERTH_OIDC_ISSUER = env.text("BERTH_OIDC_ISSUER", "")  # empty: no single sign-on
BERTH_OIDC_CLIENT_ID = env.text("BERTH_OIDC_CLIENT_ID", "")
BERTH_OIDC_CLIENT_SECRET = env.text("BERTH_OIDC_CLIENT_SECRET", "")
BERTH_OIDC_NAME = env.text("BERTH_OIDC_NAME", "single sign-on")
BERTH_OIDC_SCOPES = env.text("BERTH_OIDC_SCOPES", "openid profile email").replace(",", " ").split()
BERTH_OIDC_TRUST_EMAIL = env.flag("BERTH_OIDC_TRUST_EMAIL")
BERTH_OIDC_GROUPS_CLAIM = env.text("BERTH_OIDC_GROUPS_CLAIM", "groups")
BERTH_OIDC_ADMIN_GROUP = env.text("BERTH_OIDC_ADMIN_GROUP", "")
BERTH_OIDC_ONLY = env.flag("BERTH_OIDC_ONLY")
try:
    BERTH_OIDC_GROUPS = rules.parse_groups(env.text("BERTH_OIDC_GROUPS", ""))
except ValueError as problem:
    raise env.BadSetting("BERTH_OIDC_GROUPS", str(problem)) from None
if BERTH_OIDC_ISSUER:
    if _trouble := rules.issuer_problem(BERTH_OIDC_ISSUER, plain_http=INSECURE_HTTP):
        raise env.BadSetting("BERTH_OIDC_ISSUER", _trouble)
    if not BERTH_OIDC_CLIENT_ID:
        raise env.BadSetting("BERTH_OIDC_CLIENT_ID", "is needed with BERTH_OIDC_ISSUER")
    if not BERTH_OIDC_CLIENT_SECRET:
        raise env.BadSetting("BERTH_OIDC_CLIENT_SECRET", "is needed with BERTH_OIDC_ISSUER")
    if "openid" not in BERTH_OIDC_SCOPES:
        raise env.BadSetting("BERTH_OIDC_SCOPES", "must hold openid")
elif BERTH_OIDC_ONLY or BERTH_OIDC_GROUPS or BERTH_OIDC_ADMIN_GROUP:
    raise env.BadSetting("BERTH_OIDC_ISSUER", "is needed: other settings of single sign-on are there")
BERTH_STAFF_MFA = env.flag("BERTH_STAFF_MFA", True)
BERTH_STAFF_NAMESPACES = ("admin", "monitor")  # what accounts/staff.py guards

# ---- mail -------------------------------------------------------------------------------------------------
_mail = urlsplit(env.text("BERTH_MAIL", "file:var/mail"))
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("BERTH_MAIL_FROM", f"Berth <noreply@{_base.hostname}>")
if _mail.scheme == "file":
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = str(ROOT / unquote(_mail.path))
elif _mail.scheme in {"smtp", "smtps", "smtp+tls"} and _mail.hostname:
    EMAIL_HOST = _mail.hostname
    EMAIL_PORT = _mail.port or {"smtp": 25, "smtps": 465, "smtp+tls": 587}[_mail.scheme]
    EMAIL_HOST_USER = unquote(_mail.username or "")
    EMAIL_HOST_PASSWORD = unquote(_mail.password or "")
    EMAIL_USE_SSL, EMAIL_USE_TLS = _mail.scheme == "smtps", _mail.scheme == "smtp+tls"
    EMAIL_BACKEND = "accounts.smtp.EmailBackend"
    EMAIL_TIMEOUT = 10
else:
    raise env.BadSetting("BERTH_MAIL", "must be file:FOLDER or smtp[s]://user:password@host:port or smtp+tls://…")

# ---- alerts -----------------------------------------------------------------------------------------------
BERTH_ALERT_MAIL = env.words("BERTH_ALERT_MAIL")  # empty: every superuser with an address
BERTH_REPORT_MAIL = env.words("BERTH_REPORT_MAIL")  # the weekly health report
BERTH_ALERT_WEBHOOK = env.text("BERTH_ALERT_WEBHOOK", "")
if BERTH_ALERT_WEBHOOK and not is_address(BERTH_ALERT_WEBHOOK):  # not repeated: it may hold a secret
    raise env.BadSetting("BERTH_ALERT_WEBHOOK", "must be an http(s) address in ASCII, no user and password in it")
BERTH_ALERT_WEBHOOK_SECRET = env.text("BERTH_ALERT_WEBHOOK_SECRET", "")
BERTH_ALERT_DISK_FREE_PERCENT = env.whole("BERTH_ALERT_DISK_FREE_PERCENT", 10, 0, 90)
BERTH_ALERT_MEMORY_FREE_PERCENT = env.whole("BERTH_ALERT_MEMORY_FREE_PERCENT", 5, 0, 90)
BERTH_ALERT_START_FAILURES = env.whole("BERTH_ALERT_START_FAILURES", 3, 1, 10_000)
BERTH_ALERT_START_FAILURE_PERCENT = env.whole("BERTH_ALERT_START_FAILURE_PERCENT", 20, 1, 100)
BERTH_ALERT_START_MINUTES = env.whole("BERTH_ALERT_START_MINUTES", 15, 1, 1440)
BERTH_ALERT_BACKLOG_S = env.whole("BERTH_ALERT_BACKLOG_S", 60, 5, 86_400)
BERTH_ALERT_CERTIFICATE_DAYS = env.whole("BERTH_ALERT_CERTIFICATE_DAYS", 30, 1, 365)

# ---- language, time, files --------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = ["portal.formats"]
STATIC_URL = "static/"
STATIC_ROOT = ROOT / "var/static"
STATICFILES_DIRS = [ROOT / "static"]
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "portal.static.FrontEndFinder",
]
NODE_MODULES = ROOT / "node_modules"
ICONS_DIR = NODE_MODULES / "@tabler/icons/icons"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if TESTING or DEBUG
        else "portal.static.HashedStaticFilesStorage"
    },
}

# ---- what Berth itself needs ------------------------------------------------------------------------------
BERTH_SSH_KEY = env.path("BERTH_SSH_KEY")
BERTH_SSH_KNOWN_HOSTS = env.path("BERTH_SSH_KNOWN_HOSTS")
BERTH_TLS_DIR = env.path("BERTH_TLS_DIR")
BERTH_CA_DIR = env.path("BERTH_CA_DIR")
BERTH_RUN_DIR = ROOT / env.text("BERTH_RUN_DIR", "var/run")
BERTH_FAIL_DIR = env.path("BERTH_FAIL_DIR")  # tests only: see compute/failpoints.py
BERTH_REGISTRY = env.text("BERTH_REGISTRY", "")
BERTH_STEP_MINUTES = env.whole("BERTH_STEP_MINUTES", 15, 1, 1440)
BERTH_PORT_REST_MINUTES = env.whole("BERTH_PORT_REST_MINUTES", 10, 0, 1440)
# A lower layer asks what is named here (design: imports run one way).
BERTH_AUDIT_FUNCTION = "accounts.audit.record"
BERTH_EXPECTED_CONTAINERS_FUNCTION = "reservations.expected.containers_expected"
BERTH_PRICES = "billing.quotes"
BERTH_CLOSING_PARTS = ["reservations.account_closing", "billing.account_closing"]  # see accounts/closing.py

# ---- money ------------------------------------------------------------------------------------------------
BERTH_CURRENCY = env.matching("BERTH_CURRENCY", "USD", r"[A-Z]{3}", "a currency's three letters, such as EUR")
_OTHER_DECIMALS = {  # by ISO 4217; amounts are rounded to two
    *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF"),
    *("XPF", "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"),
}
if BERTH_CURRENCY in _OTHER_DECIMALS:
    raise env.BadSetting("BERTH_CURRENCY", f"must be a currency with two decimals, not {BERTH_CURRENCY}")
BERTH_PRICE_PER_CORE_HOUR = env.money("BERTH_PRICE_PER_CORE_HOUR", "0.50")  # where no rate in the database holds
BERTH_CREDIT_LIMIT = env.optional_money("BERTH_CREDIT_LIMIT", most=99_999_999)  # of new accounts; None: no limit
BERTH_BILLING_TIME_ZONE = env.zone("BERTH_BILLING_TIME_ZONE", "UTC")
BERTH_TAX_LABEL = env.text("BERTH_TAX_LABEL", "Tax")
BERTH_TAX_PERCENT = env.money("BERTH_TAX_PERCENT", "0", most=100)
BERTH_SELLER = env.lines("BERTH_SELLER", "Berth")
BERTH_INVOICE_PREFIX = env.matching(
    "BERTH_INVOICE_PREFIX", "INV-", r"[A-Za-z0-9/_-]{0,12}", "at most 12 of A-Z a-z 0-9 / _ -"
)
BERTH_INVOICE_NOTE = env.lines("BERTH_INVOICE_NOTE", "")
BERTH_INVOICE_DUE_DAYS = env.whole("BERTH_INVOICE_DUE_DAYS", 14, 0, 365)
BERTH_STRIPE_SECRET_KEY = env.text("BERTH_STRIPE_SECRET_KEY", "")  # empty: no card payments
BERTH_STRIPE_WEBHOOK_SECRET = env.text("BERTH_STRIPE_WEBHOOK_SECRET", "")
BERTH_STRIPE_API = env.matching("BERTH_STRIPE_API", "https://api.stripe.com", r"https?://[^\s/]+", "an address")
if BERTH_STRIPE_SECRET_KEY and not BERTH_STRIPE_WEBHOOK_SECRET:
    raise env.BadSetting("BERTH_STRIPE_WEBHOOK_SECRET", "is needed: only it tells a payment from a forgery")

UNFOLD = ADMIN_THEME

# ---- what browsers are told at once ------------------------------------------------------------------------
BERTH_LIVE_LISTEN = env.address("BERTH_LIVE_LISTEN") or ("127.0.0.1", 8001)  # where `python -m portal.live` listens
BERTH_LIVE_URL = env.matching(  # where browsers find it; empty: pages ask again by themselves
    "BERTH_LIVE_URL",
    "",
    r"((https?://[^\s/?#;,']+)?/[^\s?#;,']*)?",
    "an address or a path, such as /live/",
)

# ---- what is told to the outside ---------------------------------------------------------------------------
BERTH_METRICS_TOKEN = env.text("BERTH_METRICS_TOKEN", "")  # empty: only this machine and private networks may ask
if BERTH_METRICS_TOKEN and not 16 <= len(BERTH_METRICS_TOKEN.encode()) <= 200:
    raise env.BadSetting("BERTH_METRICS_TOKEN", "must have 16 to 200 characters")
BERTH_METRICS_LISTEN = env.address("BERTH_METRICS_LISTEN")  # of a worker whose machine has no web process
LOGGING_CONFIG = "logging.config.dictConfig"
BERTH_LOG_FORMAT = env.choice("BERTH_LOG_FORMAT", "text" if DEBUG or INSECURE_HTTP else "json", logs.FORMATS)
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LOGGING = logs.configuration(BERTH_LOG_FORMAT, env.choice("BERTH_LOG_LEVEL", "info", LOG_LEVELS).upper())
SILENCED_SYSTEM_CHECKS: list[str] = []
