"""What the distribution is called, needs and brings. Tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

#: The libraries that benchmarks/strategies runs beside this one; it takes some of them apart, hence the bounds.
STRATEGIES = ["pyrate-limiter>=4.5,<5", "botocore>=1.44,<1.45", "adaptive-concurrency>=0.1.1,<0.2"]
#: The libraries beside which each decorator is timed, by benchmarks/peers.py; the others of it are needed anyway.
PEERS = ["tenacity>=9", "stamina>=24", "pybreaker>=1.2", "limits>=4", "throttled-py>=3", "ratelimit>=2.2",
         "func-timeout>=4.3", "pebble>=5"]
#: The clients of LLM APIs that are built on httpx, or its successor.
CLIENTS = ["httpx>=0.27", "httpx2>=2.0", "openai>=3", "anthropic>=2", "huggingface_hub>=2"]
#: What each part outside the core needs: a part brings its library in when it is first used.
PARTS = {
    "httpx": ["httpx2>=2.0"],
    "progress": ["tqdm>=4.66"],
    "cli": ["click>=8.1", "rich>=13.7"],
    "plot": ["matplotlib>=3.8"],
    "flask": ["flask>=3"],
    "django": ["django>=4.2"],
    "prometheus": ["prometheus-client>=0.20"],
    "statsd": ["statsd>=4"],
    "opentelemetry": ["opentelemetry-api>=1.25", "opentelemetry-sdk>=1.25"],
}
EXTRAS = {
    **PARTS,
    "demo": ["matplotlib>=3.8"],
    "simulation": ["matplotlib>=3.8"],
    "test": ["pytest>=8", "pytest-xdist>=3.5", "responses>=0.25", "trustme>=1.1", "hypothesis>=6.100", "mypy>=1.11",
             "types-requests", "types-tqdm",
             # So that no test is skipped.
             "matplotlib>=3.8", *PEERS, *STRATEGIES,
             # The clients whose errors are read; botocore is in STRATEGIES.
             *CLIENTS,
             # Whose responses and errors are those of a server of one's own, and are not read.
             "starlette>=0.37",
             *(need for needs in PARTS.values() for need in needs),
             "gunicorn>=22", "waitress>=3", "selenium>=4.20", "setuptools>=68"],
    "lint": ["mypy>=1.11", "ruff>=0.6", "types-requests", "types-tqdm", "django-stubs>=5",
             *(need for part in ("cli", "flask", "prometheus", "opentelemetry") for need in PARTS[part])],
    "bench": [*PEERS, "trustme>=1.1", *STRATEGIES, "matplotlib>=3.8",
              "prometheus-client>=0.20", "flask>=3", "gunicorn>=22"],
}
EXTRAS["all"] = sorted({need for needs in EXTRAS.values() for need in needs})

setup(
    name="llm-guard-flow",
    version="0.1.0",
    description="Stackable decorators that carry calls to LLM APIs through cold starts, rate limits and overload.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["llm_guard", "llm_guard.*"]),
    package_data={"llm_guard": ["py.typed"], "llm_guard.web.status": ["static/*"]},
    python_requires=">=3.11",
    install_requires=["requests>=2.31", "urllib3>=1.26", "backoff>=2.2.1", "circuitbreaker>=2.0"],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["llm-guard = llm_guard.cli.main:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)
