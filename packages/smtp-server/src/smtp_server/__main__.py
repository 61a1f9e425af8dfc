"""Main: ``python -m smtp_server`` is the same as the command ``smtp-server``."""

from smtp_server.cli import main

if __name__ == "__main__":
    main()
