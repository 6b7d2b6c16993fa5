"""Programs are read without running what they hold, and refused where they hold more than operators and tensors."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastserve_converters.programs.archive import MODEL, read_archive
from fastserve_converters.programs.loading import load_program
from fastserve_converters.programs.saving import save_program
from fastserve_runtime.errors import UsageError
from torch_modules import TOWERS_EXAMPLE, Convolutional, TwoTowers

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "towers.pt2"
    save_program(TwoTowers(), TOWERS_EXAMPLE, path)
    return path


@pytest.fixture
def changed(towers: Path, tmp_path: Path) -> Callable[[Callable[[Members], object]], Path]:
    """Write the program again after a change to its members."""

    def write(change: Callable[[Members], object]) -> Path:
        with zipfile.ZipFile(towers) as archive:
            members = {m.filename.partition("/")[2]: archive.read(m) for m in archive.infolist()}
        change(members)
        path = tmp_path / "changed.pt2"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(f"towers/{name}", content)
        return path

    return write


def of_document(change: Callable[[Any], object]) -> Callable[[Members], None]:
    def apply(members: Members) -> None:
        document = json.loads(members[MODEL])
        change(document)
        members[MODEL] = json.dumps(document).encode()

    return apply


def first_node(document: Any) -> Any:
    return document["graph_module"]["graph"]["nodes"][0]


class Escaping:
    """Creates a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.place), "w")


def test_a_program_is_loaded_as_it_was_saved(towers: Path) -> None:
    archive = read_archive(towers)
    assert archive.torch_version == torch.__version__
    program = load_program(archive)
    module = TwoTowers().eval()
    module.load_state_dict(program.state_dict)
    with torch.no_grad():
        found, expected = (m(**TOWERS_EXAMPLE) for m in (program.module(check_guards=False), module))
    torch.testing.assert_close(found["score"], expected["score"])


def test_source_code_of_guards_and_foreign_notes_are_left_out(changed: Any) -> None:
    def change(document: Any) -> None:
        document["guards_code"] = ["__import__('os').system('false')"]
        first_node(document)["metadata"]["custom"] = "__import__('os')"

    document = json.loads(read_archive(changed(of_document(change))).members[MODEL])
    assert document["guards_code"] == []
    assert set(first_node(document)["metadata"]) <= {"nn_module_stack", "torch_fn", "stack_trace"}


@pytest.mark.parametrize(
    "target",
    ["torch.load", "torch.hub.load", "torch.os.system", "torch.ops.aten.from_file.default", "torch.ops.own.op.default",
     "_operator.methodcaller", "math.os", "torch.ops.higher_order.print", "#own:op", "torch.ops.aten.add.Tensor.x"],
)  # fmt: skip
def test_functions_that_are_no_operators_are_refused(changed: Any, target: str) -> None:
    path = changed(of_document(lambda document: first_node(document).update(target=target)))
    with pytest.raises(UsageError, match="is not one of PyTorch's own operators") as refused:
        read_archive(path)
    assert target in refused.value.problem


@pytest.mark.parametrize(
    "size",
    ["__import__('os').system('false')", "Symbol('s1').__class__", "Lambda(s0, s0)", "open('x')", "(lambda: 1)()",
     "[s0]", "Symbol('__import__')", "s0 if s0 else 1", "Symbol(name='s0')", "exec('1')", "("],
)  # fmt: skip
def test_sizes_that_are_no_arithmetic_are_refused(changed: Any, size: str) -> None:
    def change(document: Any) -> None:
        value = document["graph_module"]["graph"]["tensor_values"]["features"]
        value["sizes"][0] = {"as_expr": {"expr_str": size, "hint": {"as_int": 1}}}

    with pytest.raises(UsageError, match="which is not plain arithmetic"):
        read_archive(changed(of_document(change)))


def test_bounds_are_no_place_for_code_either(changed: Any) -> None:
    def change(document: Any) -> None:
        document["range_constraints"] = {"__import__('os')": {"min_val": 1, "max_val": 2}}

    with pytest.raises(UsageError, match="which is not plain arithmetic"):
        read_archive(changed(of_document(change)))


@pytest.mark.parametrize(
    "name", ["data/aotinductor/model/x.so", "data/constants/custom_obj_0", "code/x.py", "models/b.json"]
)
def test_what_is_no_part_of_a_plain_program_is_refused(changed: Any, name: str) -> None:
    with pytest.raises(UsageError, match=f"holds '{name}'"):
        read_archive(changed(lambda members: members.update({name: b"x"})))


def test_objects_among_the_constants_are_refused(changed: Any) -> None:
    def change(members: Members) -> None:
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        members["data/constants/model_constants_config.json"] = json.dumps({"config": {"own": entry}}).encode()

    with pytest.raises(UsageError, match="the object 'own', which is no tensor and would be unpickled"):
        read_archive(changed(change))


@pytest.mark.parametrize("name", ["data/sample_inputs/model.pt", "data/weights/weight_0"])
def test_pickles_that_run_something_are_refused_before_they_do(changed: Any, tmp_path: Path, name: str) -> None:
    place = tmp_path / "escaped"
    content = io.BytesIO()
    torch.save(Escaping(place), content)
    archive = read_archive(changed(lambda members: members.update({name: content.getvalue()})))
    with pytest.raises(UsageError, match=f"'{name}' holds more than tensors"):
        load_program(archive)
    assert not place.exists()
    pickle.loads(pickle.dumps(Escaping(place)))
    assert place.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            of_document(lambda d: d.update(schema_version={"major": 5, "minor": 1})),
            "by PyTorch .* version 5 of programs",
        ),
        (of_document(lambda d: d.update(schema_version=None, torch_version=None)), "by PyTorch unknown with"),
        (lambda m: m.update({MODEL: b"[]"}), "is damaged: it holds no object"),
        (lambda m: m.update({MODEL: b"{"}), "is damaged"),
        (lambda m: m.pop(MODEL), "has no models/model.json"),
        (lambda m: m.update({"serialized_exported_program.json": b"{}"}), "before 2.8, in another format"),
    ],
)
def test_damaged_programs_and_those_of_other_releases_are_told(changed: Any, change: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_archive(changed(change))


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no program at"):
        read_archive(tmp_path / "absent.pt2")
    (tmp_path / "text.pt2").write_text("hello")
    with pytest.raises(UsageError, match=r"'text.pt2' is no program of torch.export"):
        read_archive(tmp_path / "text.pt2")
    with zipfile.ZipFile(tmp_path / "packed.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b", "c" * 99)
    with pytest.raises(UsageError, match="its members are not stored as"):
        read_archive(tmp_path / "packed.pt2")


def test_a_program_that_pytorch_cannot_read_names_both_releases(changed: Any) -> None:
    def change(document: Any) -> None:
        document["torch_version"] = "2.99.0"
        del document["graph_module"]["signature"]

    with pytest.raises(
        UsageError, match=rf"PyTorch {torch.__version__.partition('+')[0]}.* which PyTorch 2.99.0 wrote"
    ):
        load_program(read_archive(changed(of_document(change))))


def test_open_axes_survive(tmp_path: Path) -> None:
    shapes = {"image": {2: 2 * torch.export.Dim("height", min=1, max=8)}}
    save_program(Convolutional(), {"image": torch.ones(1, 3, 8, 8)}, tmp_path / "c.pt2", dynamic_shapes=shapes)
    program = load_program(read_archive(tmp_path / "c.pt2"))
    assert program.module(check_guards=False)(image=torch.ones(1, 3, 12, 8)).shape == (1, 2, 12, 8)
