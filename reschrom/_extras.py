"""What the base install leaves out, and the one line that says which extra brings it."""

from collections.abc import Iterator
from contextlib import contextmanager

# The packages that only an extra installs, by the name under which they are imported.
EXTRAS = {
    "accelerate": "diffusers",
    "diffusers": "diffusers",
    "filelock": "train",
    "huggingface_hub": "data",
    "pandas": "data",
    "pyarrow": "data",
    "pydantic": "train",
    "safetensors": "diffusers",
    "skimage": "data",
    "sklearn": "data",
    "torch": "diffusers",
    "tqdm": "data",
    "transformers": "diffusers",
    "yaml": "train",
}


@contextmanager
def naming_extra(what: str, extra: str | None = None) -> Iterator[None]:
    """Say which extra to install when a package that it brings is missing; as a block, or as a decorator.

    what: what needs the package, in the words of its user.
    extra: the one to install, where `what` needs more than the extra that brings the missing package.
    Raises ModuleNotFoundError with that line; where one such block lies in another, the outer one names what needs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:  # what an installed package lacks is for that package to say
            raise
        brings = extra or EXTRAS[error.name]
        line = f'{what} needs {error.name}, which is not installed: pip install "reschrom[{brings}]"'
        raise ModuleNotFoundError(line, name=error.name) from None
