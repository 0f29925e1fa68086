"""The Flask app of app.py behind gunicorn, with an LLM that starts cold.

    python examples/flask_app/main.py [--port 8000] [--workers 1] [--threads 64] [--unguarded] [--llm URL]
    curl 'http://127.0.0.1:8000/ask?q=hello'
    curl -N 'http://127.0.0.1:8000/stream?q=hello'

One process with many threads serves it: its guards see all calls. Several `--workers` work too, each with guards of its
own.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))  # where what both web examples share lies

from behind_gunicorn import serve  # noqa: E402

if __name__ == "__main__":
    sys.exit(serve("Flask app", "app:app", HERE))
