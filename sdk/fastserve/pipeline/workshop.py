"""What steps are done with: converter processes, the device, and folders of the files that they may read."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fastserve.cache.cache import Cache
from fastserve.devices import Device
from fastserve.pipeline.converter_process import ConverterProcess
from fastserve.pipeline.step_inputs import InputFolders
from fastserve_runtime.closing import ClosedAtEnd

_NONE: Mapping[str, str] = MappingProxyType({})


class Workshop(ClosedAtEnd):
    """Holds what several steps share, and ends its processes at the end.

    Attributes:
        device: where artifacts are measured.
        folders: makes the folders that steps read.
        debug: whether converters and engines show their logs.
    """

    def __init__(self, cache: Cache, device: Device, *, debug: bool = False) -> None:
        """Start nothing yet."""
        self.device = device
        self.folders = InputFolders(cache.run_folder.new)
        self.debug = debug
        self._converters: dict[frozenset[tuple[str, str]], ConverterProcess] = {}

    def converter(self, environment: Mapping[str, str] = _NONE) -> ConverterProcess:
        """Return the converter process whose environment has these variables beside this one's."""
        own = frozenset(environment.items())
        if own not in self._converters:
            self._converters[own] = ConverterProcess(debug=self.debug, environment=environment)
        return self._converters[own]

    def close(self) -> None:
        """End the converter processes."""
        while self._converters:
            self._converters.popitem()[1].close()
