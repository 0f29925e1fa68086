"""`python -m llm_guard`: the command line."""

from llm_guard.cli.main import main

if __name__ == "__main__":
    main()
