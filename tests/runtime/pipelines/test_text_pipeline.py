"""What text pipelines share: they close what they opened."""

import pytest

from fastserve_runtime.pipelines._text_pipeline import TextPipeline


class Session:
    def __init__(self):
        self.is_closed = False

    def close(self):
        self.is_closed = True


def test_leaving_the_block_closes_the_session_even_after_an_error():
    with TextPipeline(Session(), None) as pipeline:
        assert not pipeline.session.is_closed
    assert pipeline.session.is_closed
    session = Session()
    with pytest.raises(KeyError), TextPipeline(session, None):
        raise KeyError
    assert session.is_closed
