"""`python -m vqtools` is `vqtools`."""

from vqtools.cli.main import main

if __name__ == "__main__":
    main()
