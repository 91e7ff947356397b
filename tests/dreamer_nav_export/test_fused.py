"""Layers rearranged for few operators give what the agent's give."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from dreamer_nav.presets import load_config
from dreamer_nav.spaces import ObsSpec
from dreamer_nav.world_model import WorldModel
from dreamer_nav_export.fused import CodedLinear, RawEncoder
from dreamer_nav_export.graph import PolicyStep
from tests.dreamer_nav_export.agents import make_run
from tests.dreamer_nav_export.conftest import Exported

SPECS = (
    ObsSpec("rgb", (64, 64, 3), "uint8", 0.0, 255.0),
    ObsSpec("depth", (64, 64, 1), "float32", 0.1, 10.0),
    ObsSpec("pointgoal", (2,), "float32", -4.0, 1e6),
    ObsSpec("speed", (3,), "float32"),
)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_raw_encoder_is_the_encoder_after_the_scaling(layer_norm: bool) -> None:
    changes = {"agent.encoder.polar_keys": "pointgoal", "agent.encoder.layer_norm": layer_norm}
    config = load_config("debug", changes)
    torch.manual_seed(0)
    model = WorldModel(SPECS, 4, config.agent)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    obs = {
        "rgb": torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8),
        "depth": 0.1 + 9.9 * torch.rand(5, 64, 64, 1),
        "pointgoal": torch.rand(5, 2),
        "speed": torch.randn(5, 3),
    }
    with torch.no_grad():
        expected, found = model.encoder(model.preprocess(obs)), RawEncoder(model)(obs)
        scaled = model.encoder({**model.preprocess(obs), "depth": obs["depth"]})
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(scaled, expected, atol=1e-2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("rest", [0, 3])
def test_a_coded_linear_is_the_linear_of_the_one_hots(rest: int) -> None:
    sizes = [3, 2, 4]
    torch.manual_seed(0)
    layer = nn.Linear(sum(sizes) + rest, 7)
    index = torch.tensor([[0, 0, 0], [2, 1, 3], [1, 0, 2], [-5, 99, 7]])
    zero = torch.tensor([[False], [False], [False], [True]])
    onehots = [torch.eye(n)[index[:3, i]] for i, n in enumerate(sizes)]
    onehots = [torch.cat([x, torch.zeros(1, x.shape[1])]) for x in onehots]
    more = torch.randn(4, rest)
    with torch.no_grad():
        found = CodedLinear(layer, sizes)(index, more if rest else None, zero)
        torch.testing.assert_close(found, layer(torch.cat([*onehots, more], -1)))


def test_a_picture_reaches_its_convolution_without_arithmetic(pointgoal: Exported) -> None:
    """Its scaling as operators of their own took half of a step."""
    nodes = onnx.load_model_from_string(pointgoal.data).graph.node
    (conv,) = (n for n in nodes if n.op_type == "Conv" and _source(nodes, n.input[0]) == "depth")
    assert conv.input[1].endswith("cnn.0.weight")
    assert len(nodes) < 100


def _source(nodes: list[onnx.NodeProto], name: str) -> str:
    """What `name` is but for its layout."""
    made = {output: node for node in nodes for output in node.output}
    while name in made and made[name].op_type in ("Reshape", "Transpose", "Cast"):
        name = made[name].input[0]
    return name


@pytest.mark.parametrize("case", ["pointgoal", "pointgoal velocities"])
@pytest.mark.parametrize("part", ["latent.obs_logits", "actor.others", "latent.gru.linear"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_anywhere_is_not_ok(
    case: str, part: str, number: float
) -> None:
    step = PolicyStep(make_run(case).agent, "mode")
    example = step.example(2)
    where = step.output_names.index("ok")
    with torch.no_grad():
        assert step(*example)[where].tolist() == [True, True]
        module = step.get_submodule(part)
        layer = module[-1] if isinstance(module, nn.Sequential) else module
        layer.bias[-1] = number
        ok = step(*example)[where].tolist()
    # The spread of a velocity saturates, so that its numbers are finite all the same.
    saturates = case == "pointgoal velocities" and part == "actor.others" and np.isinf(number)
    assert ok == [saturates, saturates]
