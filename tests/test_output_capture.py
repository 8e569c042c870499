import logging
import warnings

import pytest

from tinyvit.output_capture import quiet_loggers


def talk():
    logging.getLogger("somebody.else").warning("retrying")
    logging.getLogger("somebody.else").error("broken")
    warnings.warn("old", stacklevel=1)


def test_quiet_inside_and_as_before_after_it(caplog):
    logger = logging.getLogger("somebody.else")
    logger.setLevel(logging.INFO)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with quiet_loggers("somebody.else"):
            talk()
        assert ([record.message for record in caplog.records], shown) == (["broken"], [])
        with pytest.raises(KeyError), quiet_loggers("somebody.else"):
            raise KeyError
        talk()
    assert [record.message for record in caplog.records] == ["broken", "retrying", "broken"]
    assert (len(shown), logger.level) == (1, logging.INFO)
