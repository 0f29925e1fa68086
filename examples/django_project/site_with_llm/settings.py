"""As little as Django needs; what concerns llm_guard is at the end."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "of an example, and no secret")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "site_with_llm.urls"
WSGI_APPLICATION = "site_with_llm.wsgi.application"
USE_TZ = True
INSTALLED_APPS = ["llm_guard.web.django"]
MIDDLEWARE = ["llm_guard.web.django.middleware.GuardMiddleware", "django.middleware.common.CommonMiddleware"]
LLM_GUARD = {"DEADLINE": 20, "UPSTREAM_ERRORS": ["requests.RequestException"],
             "STATUS_TOKEN": os.environ.get("STATUS_TOKEN")}  # 16 characters at least: /guard/ is there
