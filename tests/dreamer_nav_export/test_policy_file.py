"""Files that are damaged, foreign, hostile or of another version: refused, with the reason."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dreamer_nav_export.contract import METADATA_KEY
from dreamer_nav_export.errors import ContractError, PolicyFileError
from dreamer_nav_export.policy_file import SEAL_KEY, read_policy_file, seal, sidecar_path
from dreamer_nav_export.runtime import Policy
from dreamer_nav_export.session import PolicySession
from tests.dreamer_nav_export.conftest import Exported


def write_sidecar(path: Path, text: str) -> None:
    Path(sidecar_path(path)).write_text(text)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spoiled(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with a changed contract."""
    model = onnx.load_model_from_string(data)
    contract = json.loads(model.metadata_props[0].value)
    change(contract)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(contract)})
    return model.SerializeToString()


# -- the file ------------------------------------------------------------------------------------


def test_a_whole_file_loads_with_and_without_its_hash(policy_file: Path) -> None:
    Policy.load(policy_file).selftest()
    write_sidecar(policy_file, f"{sha256(policy_file)}  policy.onnx\n")
    Policy.load(str(policy_file), expected_sha256=sha256(policy_file).upper()).selftest()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"nothing\.onnx cannot be read"):
        Policy.load(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("name", ["", "\0", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PolicyFileError, match="cannot be read"):
        Policy.load(str(tmp_path) + "/" + name)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_a_truncated_file_is_refused(policy_file: Path, share: float) -> None:
    data = policy_file.read_bytes()
    policy_file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(PolicyFileError):
        Policy.load(policy_file)


def test_one_flipped_bit_is_seen_by_the_hash_wherever_it_is(policy_file: Path) -> None:
    data, said = policy_file.read_bytes(), sha256(policy_file)
    write_sidecar(policy_file, f"{said}  policy.onnx\n")
    for position in np.linspace(0, len(data) - 1, 25).astype(int):
        flipped = bytearray(data)
        flipped[position] ^= 1
        policy_file.write_bytes(flipped)
        with pytest.raises(PolicyFileError, match="SHA-256"):
            Policy.load(policy_file)


def test_one_flipped_bit_is_seen_without_a_sidecar_too(policy_file: Path) -> None:
    """ONNX Runtime would load most of these without an error."""
    data = policy_file.read_bytes()
    for position in np.linspace(0, len(data) - 1, 25).astype(int):
        flipped = bytearray(data)
        flipped[position] ^= 4
        policy_file.write_bytes(flipped)
        with pytest.raises(PolicyFileError, match="seal"):
            Policy.load(policy_file)


def test_a_flipped_bit_of_the_seal_and_a_second_seal_are_refused(policy_file: Path) -> None:
    data = policy_file.read_bytes()
    place = data.index(SEAL_KEY.encode())
    for wrong in (
        data[: place + 20] + bytes([data[place + 20] ^ 1]) + data[place + 21 :],
        data + data[place : place + len(SEAL_KEY) + 66],
    ):
        policy_file.write_bytes(wrong)
        with pytest.raises(PolicyFileError, match="seal"):
            Policy.load(policy_file)


def test_only_a_model_with_a_place_for_it_is_sealed() -> None:
    with pytest.raises(ValueError, match="no place for a seal"):
        seal(b"model")


def test_without_a_sidecar_the_expected_hash_is_checked(policy_file: Path) -> None:
    with pytest.raises(PolicyFileError, match="SHA-256"):
        Policy.load(policy_file, expected_sha256="0" * 64)


@pytest.mark.parametrize("wrong", ["", "abc", "0" * 63, "g" * 64, "0" * 64 + "\n"])
def test_a_hash_that_is_none_is_refused(policy_file: Path, wrong: str) -> None:
    with pytest.raises(PolicyFileError, match="64 hexadecimal digits"):
        Policy.load(policy_file, expected_sha256=wrong)


@pytest.mark.parametrize(
    "text", ["", "policy.onnx", "0" * 63 + " p", "x" * 5000, "0" * 64 + "\n\nmore"]
)
def test_a_damaged_sidecar_is_refused(policy_file: Path, text: str) -> None:
    write_sidecar(policy_file, text)
    with pytest.raises(PolicyFileError, match="sha256sum"):
        Policy.load(policy_file)


def test_the_sidecar_counts_even_where_the_expected_hash_fits(policy_file: Path) -> None:
    write_sidecar(policy_file, "0" * 64)
    with pytest.raises(PolicyFileError, match=r"\.sha256 says 0000"):
        Policy.load(policy_file, expected_sha256=sha256(policy_file))


def test_an_oversized_file_is_refused_before_it_is_read(policy_file: Path) -> None:
    with pytest.raises(PolicyFileError, match="more than 1000 bytes"):
        Policy.load(policy_file, max_bytes=1000)
    os.truncate(policy_file, 2**40)  # sparse: reading it would take all memory
    with pytest.raises(PolicyFileError, match="the limit"):
        read_policy_file(policy_file, max_bytes=2**20)


@pytest.mark.parametrize("content", [b"x", b"\x00" * 1000, b"PK\x03\x04", b"\x80\x04K\x01."])
def test_what_is_no_model_is_refused(policy_file: Path, content: bytes) -> None:
    policy_file.write_bytes(content)
    with pytest.raises(PolicyFileError):
        Policy.load(policy_file)


def test_a_provider_that_is_not_there_is_named(policy_file: Path) -> None:
    with pytest.raises(PolicyFileError, match="has no AbacusExecutionProvider"):
        Policy.load(policy_file, providers=["AbacusExecutionProvider"])


def sealed(model: onnx.ModelProto) -> bytes:
    """As somebody would who knows how a policy file looks."""
    metadata = {p.key: p.value for p in model.metadata_props}
    helper.set_model_props(model, {**metadata, SEAL_KEY: "0" * 64})
    return seal(model.SerializeToString())


# -- what a hostile model tries ------------------------------------------------------------------


def reading(location: str, size: int) -> onnx.ModelProto:
    """A model whose constant lies in another file."""
    tensor = TensorProto(name="secret", data_type=TensorProto.UINT8, dims=[size])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value=str(size))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["secret"], ["out"])],
        "g",
        [],
        [helper.make_tensor_value_info("out", TensorProto.UINT8, [size])],
        [tensor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_model_cannot_read_other_files(tmp_path: Path, absolute: bool) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"password")
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "policy.onnx"
    model = reading(str(secret) if absolute else "../secret.bin", 8)
    path.write_bytes(sealed(model))
    with pytest.raises(PolicyFileError, match="cannot load the file"):
        Policy.load(path)


def test_weights_beside_the_file_are_refused_too(policy_file: Path) -> None:
    model = onnx.load(str(policy_file))
    onnx.save(
        model,
        str(policy_file),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="weights.bin",
        size_threshold=16,
    )
    assert (policy_file.parent / "weights.bin").exists()
    policy_file.write_bytes(sealed(onnx.load(str(policy_file), load_external_data=False)))
    with pytest.raises(PolicyFileError):
        Policy.load(policy_file)


def test_an_unknown_operator_is_refused(policy_file: Path) -> None:
    model = onnx.load(str(policy_file))
    model.graph.node[0].domain = "evil"
    model.opset_import.append(helper.make_opsetid("evil", 1))
    policy_file.write_bytes(sealed(model))
    with pytest.raises(PolicyFileError, match="cannot load the file"):
        Policy.load(policy_file)


@pytest.mark.parametrize("name", [METADATA_KEY, "pointgoal", "next_deter"])
def test_names_that_are_no_text_are_refused(pointgoal: Exported, name: str) -> None:
    """ONNX Runtime loads such a file; reading its names raises UnicodeDecodeError."""
    damaged = pointgoal.data.replace(name.encode(), name[:-1].encode() + b"\x84")
    assert damaged != pointgoal.data
    with pytest.raises(PolicyFileError):
        PolicySession(damaged)


# -- the contract in it --------------------------------------------------------------------------


def test_a_model_without_a_contract_is_no_policy(pointgoal: Exported) -> None:
    model = onnx.load_model_from_string(pointgoal.data)
    del model.metadata_props[:]
    with pytest.raises(ContractError, match=METADATA_KEY):
        PolicySession(model.SerializeToString())


def change_schema(contract: dict[str, Any]) -> None:
    contract["schema"] = 99


def change_input_name(contract: dict[str, Any]) -> None:
    contract["observations"][0]["name"] = "range"


def change_input_dtype(contract: dict[str, Any]) -> None:
    contract["observations"][0]["dtype"] = "uint8"


def change_input_shape(contract: dict[str, Any]) -> None:
    contract["observations"][0]["shape"] = [32, 32, 1]


def change_noise(contract: dict[str, Any]) -> None:
    contract["noise"][1]["used"] = True


def change_batch(contract: dict[str, Any]) -> None:
    contract["batch"] = 1


def change_outputs(contract: dict[str, Any]) -> None:
    contract["outputs"] = [o for o in contract["outputs"] if o["name"] != "latent_logits"]


def change_output_shape(contract: dict[str, Any]) -> None:
    contract["outputs"][-1]["shape"] = [4, 5]


def change_actions(contract: dict[str, Any]) -> None:
    contract["discrete"]["choices"].pop()


CHANGES = [f for name, f in list(globals().items()) if name.startswith("change_")]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_contract_that_is_not_the_graphs_is_refused(
    pointgoal: Exported, change: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(ContractError):
        PolicySession(spoiled(pointgoal.data, change))
