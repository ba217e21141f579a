"""The smallest Django site that a package under attack can be mounted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

_MIDDLEWARE = (
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
)
_CONTEXT = (
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
)


def build(
    database: Path, apps: tuple[str, ...], middleware: tuple[str, ...] = (), **more: Any
) -> Any:
    """Set Django up with a project's usual settings, make the tables, return the application.

    The addresses are those in `urlpatterns` of the script that runs.

    :param apps: what is installed beside Django's own.
    :param middleware: what comes behind Django's own.
    :param more: further settings.
    """
    templates = {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": list(_CONTEXT)},
    }
    settings.configure(
        SECRET_KEY="a secret of this run, and a long one: fifty characters or more",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF="__main__",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            *apps,
        ],
        MIDDLEWARE=[*_MIDDLEWARE, *middleware],
        TEMPLATES=[templates],
        LOGIN_REDIRECT_URL="/",
        **more,
    )
    django.setup()
    call_command("migrate", verbosity=0, run_syncdb=True)
    return get_wsgi_application()
