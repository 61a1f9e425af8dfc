"""The command ``smtp-server``: what options, file and environment say becomes running servers."""
