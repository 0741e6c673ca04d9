"""``python -m binarch``."""

from binarch.cli import main

if __name__ == "__main__":
    main()
