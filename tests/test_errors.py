import errno
import os
import pickle

import pytest

from nodule_lightning.errors import InputError, full_disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_what_the_system_said(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert full_disk(error) is error


def test_an_error_of_whoever_wrote_and_one_while_it_closed() -> None:
    full = OSError(errno.ENOSPC, "no space")
    wrapped = RuntimeError("could not write")
    wrapped.__cause__ = full
    closing = ValueError("closed already")
    closing.__context__ = wrapped
    assert full_disk(closing) is full


def test_other_errors() -> None:
    assert full_disk(None) is None
    assert full_disk(OSError(errno.EACCES, "denied")) is None
    assert full_disk(ValueError("no space")) is None


def test_an_error_in_its_own_chain() -> None:
    """As it stands after `raise cause from None` where what it has caused is handled."""
    cause, caused = ValueError("refused"), RuntimeError("could not be made")
    caused.__cause__ = cause
    cause.__context__ = caused
    assert full_disk(cause) is None


def test_the_key_of_an_error_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(InputError("a.mhd is cut short", "file-damaged")))
    assert (str(error), error.key) == ("a.mhd is cut short", "file-damaged")
