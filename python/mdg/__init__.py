"""mdg, a Medical Data Gateway for the Imaging Exchange Framework."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """`mdg.__version__`, asked of the Rust core only when somebody wants it: `mdg --help` must start at once."""
        if name != "__version__":
            raise AttributeError(name)
        from mdg import _core

        return _core.__version__
