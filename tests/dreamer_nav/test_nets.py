"""Networks against the original's numbers: GRU, sizes, layouts, initialisation, preprocessing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer_nav.behavior import Behavior
from dreamer_nav.config import AgentConfig, EncoderConfig, HeadConfig, RSSMConfig
from dreamer_nav.nets import (
    MLP,
    Decoder,
    Dense,
    Encoder,
    GRUCell,
    Linear,
    init_like_keras,
    preprocess,
)
from dreamer_nav.spaces import ActionSpec, ObsSpec
from dreamer_nav.world_model import WorldModel

SMALL = EncoderConfig(cnn_depth=2, mlp_layers=2, mlp_units=5)


def _image(size: int = 64, channels: int = 1, name: str = "image") -> ObsSpec:
    return ObsSpec(name, (size, size, channels), "uint8", 0.0, 255.0)


# --- GRU -----------------------------------------------------------------------------------------


def _golden_gru(g: dict[str, Any]) -> GRUCell:
    inputs, size = len(g["x"][0]), len(g["h"][0])
    cell = GRUCell(inputs, size)
    with torch.no_grad():
        cell.linear.weight.copy_(torch.tensor(g["W"]).T)
        cell.linear.bias.copy_(torch.tensor(g["b"]))
        cell.norm.weight.copy_(torch.tensor(g["gamma"]))
        cell.norm.bias.copy_(torch.tensor(g["beta"]))
    return cell


def test_gru_equals_the_original(golden: dict[str, Any]) -> None:
    g = golden["gru"]
    assert (g["eps"], g["order"], g["update_bias"]) == (1e-3, "reset,cand,update", -1)
    cell = _golden_gru(g)
    assert cell.norm.eps == g["eps"]
    out = cell(torch.tensor(g["x"]), torch.tensor(g["h"]))
    torch.testing.assert_close(out, torch.tensor(g["out"]), rtol=0, atol=5e-7)


def test_the_gru_number_tells_torchs_norm_epsilon_from_keras(golden: dict[str, Any]) -> None:
    g = golden["gru"]
    cell = _golden_gru(g)
    cell.norm.eps = 1e-5
    out = cell(torch.tensor(g["x"]), torch.tensor(g["h"]))
    assert (out - torch.tensor(g["out"])).abs().max() > 5e-4


def test_gru_uses_its_bias_and_norm_parameters() -> None:
    # The golden cell has zero bias, unit gamma and zero beta; here none is trivial.
    cell = GRUCell(3, 4)
    for p in cell.parameters():
        nn.init.normal_(p)
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    gates = torch.cat([x, h], -1) @ cell.linear.weight.T + cell.linear.bias
    mean, var = gates.mean(-1, keepdim=True), gates.var(-1, keepdim=True, unbiased=False)
    gates = (gates - mean) / torch.sqrt(var + 1e-3) * cell.norm.weight + cell.norm.bias
    reset, cand, update = gates[:, :4], gates[:, 4:8], gates[:, 8:]
    cand = torch.tanh(torch.sigmoid(reset) * cand)
    update = torch.sigmoid(update - 1)
    torch.testing.assert_close(cell(x, h), update * cand + (1 - update) * h)


# --- parameter counts ----------------------------------------------------------------------------

_NO_NORM, _NORM = HeadConfig(), HeadConfig(layer_norm=True)
_NORM_RSSM = RSSMConfig(deter=1024, hidden=1024, layer_norm=True)
_SMALL_RSSM = RSSMConfig(deter=200, hidden=200)
_PROPRIO = (ObsSpec("orientations", (14,), "float32"), ObsSpec("velocity", (9,), "float32"))
_BOX6 = ActionSpec(False, 6, (-1.0,) * 6, (1.0,) * 6)
PARAM_CASES = {
    "atari_gray_18act": (
        (_image(),),
        ActionSpec(True, 18),
        AgentConfig(rssm=RSSMConfig(deter=600, hidden=600)),
    ),
    "crafter_rgb_17act": (
        (_image(channels=3),),
        ActionSpec(True, 17),
        AgentConfig(rssm=_NORM_RSSM, encoder=EncoderConfig(layer_norm=True), head=_NORM),
    ),
    "dmc_vision_6act": (
        (_image(channels=3),),
        _BOX6,
        AgentConfig(rssm=_SMALL_RSSM, discount_head=False),
    ),
    "dmc_proprio_walker_6act_vec14+9": (
        _PROPRIO,
        _BOX6,
        AgentConfig(rssm=_SMALL_RSSM, discount_head=False),
    ),
}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_every_parameter_count_of_the_original_is_tested(golden: dict[str, Any]) -> None:
    assert set(golden["param_counts"]) == set(PARAM_CASES)


@pytest.mark.parametrize("name", PARAM_CASES)
def test_parameter_counts_equal_the_original(golden: dict[str, Any], name: str) -> None:
    obs, action, config = PARAM_CASES[name]
    with torch.device("meta"):
        model = WorldModel(obs, action.size, config)
        behavior = Behavior(model.rssm.feat_size, action, config)
    parts = {
        "rssm": model.rssm,
        "encoder": model.encoder,
        "decoder": model.decoder,
        "reward": model.reward,
        "model": model,
        "actor": behavior.actor,
        "critic": behavior.critic,
    }
    if config.discount_head:
        parts["discount"] = model.discount
    assert {k: _count(m) for k, m in parts.items()} == golden["param_counts"][name]
    assert _count(behavior.slow_critic) == _count(behavior.critic)


# --- initialisation and layers -------------------------------------------------------------------


def test_weights_are_glorot_uniform_and_biases_zero_output_layers_included() -> None:
    model = nn.Sequential(
        nn.Linear(300, 200), nn.Conv2d(8, 16, 4), nn.ConvTranspose2d(16, 8, 6), nn.Linear(200, 1)
    )
    init_like_keras(model)
    fans = [(300, 200), (8 * 16, 16 * 16), (16 * 36, 8 * 36), (200, 1)]
    for layer, (fan_in, fan_out) in zip(model, fans, strict=True):
        assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        assert layer.bias is not None
        limit = math.sqrt(6 / (fan_in + fan_out))
        weight = layer.weight.detach()
        assert weight.abs().max() <= limit
        assert weight.abs().max() > 0.95 * limit
        assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.1)
        assert not layer.bias.any()


def test_mlp_is_elu_layers_and_a_linear_output() -> None:
    mlp = MLP(3, HeadConfig(layers=2, units=4), 2)
    x = torch.randn(5, 3)
    first, second, last = mlp
    assert isinstance(first, Dense)
    assert isinstance(second, Dense)
    assert type(last) is Linear
    hidden = F.elu(x @ first.weight.T + first.bias)
    hidden = F.elu(hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(mlp(x), hidden @ last.weight.T + last.bias)
    assert mlp(-1e3 * torch.ones(1, 3)).abs().max() < 1e6


def test_dense_norm_comes_before_elu_with_keras_epsilon() -> None:
    layer = Dense(3, 6, layer_norm=True)
    x = 0.01 * torch.randn(4, 3)
    y = x @ layer.weight.T + layer.bias
    torch.testing.assert_close(layer(x), F.elu(F.layer_norm(y, (6,), eps=1e-3)))


def test_norms_compute_in_float32_on_bfloat16_inputs() -> None:
    layer = Dense(3, 6, layer_norm=True)
    x = (300 + torch.randn(4, 6)).to(torch.bfloat16)
    expected = F.layer_norm(x.float(), (6,), eps=1e-3).to(torch.bfloat16)
    assert torch.equal(layer.norm(x), expected)


# --- preprocessing -------------------------------------------------------------------------------


def test_uint8_images_become_minus_half_to_half() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 3, 1)
    spec = ObsSpec("image", (1, 3, 1), "uint8", 0.0, 255.0)
    out = preprocess({"image": image}, [spec], ())["image"]
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.flatten(), torch.tensor([-0.5, -0.3, 0.5]))


def test_a_uint8_image_that_arrives_as_floats_is_still_divided_by_255() -> None:
    # Replay or a driver may have lost the dtype; what counts is the specification.
    image = torch.randint(0, 256, (2, 64, 64, 1), dtype=torch.uint8)
    as_int = preprocess({"image": image}, [_image()], ())["image"]
    as_float = preprocess({"image": image.float()}, [_image()], ())["image"]
    assert torch.equal(as_int, as_float)


def test_float_images_are_scaled_by_their_bounds() -> None:
    depth = ObsSpec("depth", (1, 3, 1), "float32", 0.1, 10.1)
    value = torch.tensor([0.1, 5.1, 10.1]).reshape(1, 1, 3, 1)
    out = preprocess({"depth": value}, [depth], ())["depth"]
    torch.testing.assert_close(out.flatten(), torch.tensor([-0.5, 0.0, 0.5]))


def test_vectors_pass_as_float32_and_polar_ones_lose_the_jump_at_pi() -> None:
    specs = [ObsSpec("goal", (2,), "float32"), ObsSpec("speed", (1,), "float64")]
    obs = {
        "goal": torch.tensor([[2.0, math.pi], [2.0, -math.pi], [3.0, math.pi / 2]]),
        "speed": torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64),
    }
    out = preprocess(obs, specs, ("goal",))
    expected = torch.tensor([[2.0, -1.0, 0.0], [2.0, -1.0, 0.0], [3.0, 0.0, 1.0]])
    torch.testing.assert_close(out["goal"], expected, rtol=0, atol=1e-6)
    assert out["speed"].dtype == torch.float32
    assert torch.equal(preprocess(obs, specs, ())["goal"], obs["goal"])


# --- encoder and decoder -------------------------------------------------------------------------

# Sides of the maps between the stride-2 convolutions of kernel 4 without padding, by hand.
SIDES = {64: (31, 14, 6, 2), 80: (39, 18, 8, 3), 96: (47, 22, 10, 4), 128: (63, 30, 14, 6)}


@pytest.mark.parametrize("size", SIDES)
def test_encoder_and_decoder_shapes_for_every_image_size(size: int) -> None:
    spec = _image(size, 3)
    encoder, decoder = Encoder([spec], SMALL, ()), Decoder(11, [spec], SMALL, ())
    seen = []
    for layer in encoder.cnn:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[1:])))
    features = encoder({"image": torch.rand(2, 3, size, size, 3)})
    assert seen == [(2 * 2**i, side, side) for i, side in enumerate(SIDES[size])]
    assert features.shape == (2, 3, 16 * SIDES[size][-1] ** 2)
    assert encoder.size == features.shape[-1]
    assert decoder(torch.randn(2, 3, 11))["image"].shape == (2, 3, size, size, 3)


def test_the_embedding_of_a_64_pixel_image_has_the_originals_1536_numbers() -> None:
    with torch.device("meta"):
        assert Encoder([_image()], EncoderConfig(), ()).size == 1536


def test_features_are_flattened_row_by_row_with_channels_last() -> None:
    encoder = Encoder([_image(channels=2)], SMALL, ())
    image = torch.rand(1, 64, 64, 2) - 0.5
    x = image.permute(0, 3, 1, 2)
    for layer in encoder.cnn:
        if isinstance(layer, nn.Conv2d):
            x = F.elu(F.conv2d(x, layer.weight, layer.bias, stride=2))
    features = encoder({"image": image})[0]
    height, width, channels = 2, 2, 16
    for y in range(height):
        for z in range(width):
            at = (y * width + z) * channels
            torch.testing.assert_close(features[at : at + channels], x[0, :, y, z])


def _reference_decoder(decoder: Decoder, feat: Tensor) -> Tensor:
    x = feat @ decoder.cnn_in.weight.T + decoder.cnn_in.bias  # no activation
    x = x.reshape(-1, decoder.start, decoder.start, x.shape[-1] // decoder.start**2)
    x = x.permute(0, 3, 1, 2)
    layers = [m for m in decoder.cnn if isinstance(m, nn.ConvTranspose2d)]
    for i, layer in enumerate(layers):
        x = F.conv_transpose2d(x, layer.weight, layer.bias, stride=2)
        x = F.elu(x) if i < 3 else x
    return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize("size", [64, 80])
def test_decoder_has_a_linear_input_elu_between_and_a_linear_output(size: int) -> None:
    decoder = Decoder(7, [_image(size)], SMALL, ())
    feat = torch.randn(3, 7)
    torch.testing.assert_close(decoder(feat)["image"], _reference_decoder(decoder, feat))
    kernels = [m.kernel_size[0] for m in decoder.cnn if isinstance(m, nn.ConvTranspose2d)]
    assert kernels == [5, 5, 6, 6]


def test_decoder_channels_halve_as_in_the_original() -> None:
    with torch.device("meta"):
        decoder = Decoder(7, [_image(channels=3)], EncoderConfig(), ())
    assert decoder.cnn_in.out_features == 1536
    widths = [m.out_channels for m in decoder.cnn if isinstance(m, nn.ConvTranspose2d)]
    assert widths == [192, 96, 48, 3]


def test_several_images_and_vectors_go_in_and_come_out_by_name() -> None:
    specs = [
        ObsSpec("depth", (64, 64, 1), "float32", 0.0, 10.0),
        ObsSpec("goal", (2,), "float32"),
        _image(channels=3, name="rgb"),
        ObsSpec("speed", (4,), "float32"),
    ]
    encoder, decoder = Encoder(specs, SMALL, ("goal",)), Decoder(9, specs, SMALL, ("goal",))
    obs = {
        "depth": torch.rand(2, 5, 64, 64, 1),
        "goal": torch.randn(2, 5, 3),
        "rgb": torch.rand(2, 5, 64, 64, 3),
        "speed": torch.randn(2, 5, 4),
    }
    features = encoder(obs)
    assert features.shape == (2, 5, 2 * 2 * 16 + 5)
    for name in obs:
        changed = {**obs, name: obs[name] + 0.1}
        assert not torch.allclose(encoder(changed), features), f"{name} is not encoded"
    out = decoder(torch.randn(2, 5, 9))
    assert {k: v.shape for k, v in out.items()} == {k: v.shape for k, v in obs.items()}


def test_decoded_images_keep_the_channels_of_their_own_name() -> None:
    specs = [_image(channels=1, name="a"), _image(channels=3, name="b")]
    decoder = Decoder(7, specs, SMALL, ())
    last = decoder.cnn[-1]
    assert isinstance(last, nn.ConvTranspose2d)
    assert last.bias is not None
    feat = torch.randn(1, 7)
    before = decoder(feat)
    with torch.no_grad():
        last.bias[0] += 1.0
    after = decoder(feat)
    torch.testing.assert_close(after["a"], before["a"] + 1)
    torch.testing.assert_close(after["b"], before["b"])


def test_observations_may_be_all_vectors_or_all_images() -> None:
    vectors = [ObsSpec("goal", (2,), "float32"), ObsSpec("speed", (1,), "float32")]
    obs = {"goal": torch.randn(3, 2), "speed": torch.randn(3, 1)}
    assert Encoder(vectors, SMALL, ())(obs).shape == (3, 5)
    out = Decoder(7, vectors, SMALL, ())(torch.randn(3, 7))
    assert {k: tuple(v.shape) for k, v in out.items()} == {"goal": (3, 2), "speed": (3, 1)}
    images = Decoder(7, [_image()], SMALL, ())(torch.randn(3, 7))
    assert list(images) == ["image"]


def test_encoder_norm_is_over_channels_alone() -> None:
    encoder = Encoder([_image()], EncoderConfig(cnn_depth=2, layer_norm=True), ())
    conv, norm = encoder.cnn[0], encoder.cnn[1]
    x = torch.randn(2, 1, 64, 64)
    y = conv(x)
    expected = F.layer_norm(y.permute(0, 2, 3, 1), (2,), eps=1e-3).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(y), expected)
    assert sum(p.numel() for p in norm.parameters()) == 4


@pytest.mark.parametrize("shape", [(63, 63), (48, 48), (72, 72), (64, 80)])
def test_a_wrong_image_size_says_what_is_allowed(shape: tuple[int, int]) -> None:
    spec = ObsSpec("image", (*shape, 3), "uint8", 0.0, 255.0)
    with pytest.raises(ValueError, match=rf"at least 64.*multiple of 16.*{shape[0]}x{shape[1]}"):
        Encoder([spec], SMALL, ())


def test_images_of_different_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"one size.*'a': \(64, 64, 1\).*'b': \(80, 80, 1\)"):
        Encoder([_image(64, name="a"), _image(80, name="b")], SMALL, ())


def test_channels_last_memory_goes_into_the_first_convolution() -> None:
    encoder = Encoder([_image(channels=3)], SMALL, ())
    seen: list[bool] = []

    def record(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    encoder.cnn[0].register_forward_pre_hook(record)
    encoder({"image": torch.rand(2, 64, 64, 3)})
    assert seen == [True]


def test_numpy_and_torch_agree_on_what_a_uint8_image_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 1), dtype=np.uint8)
    out = preprocess({"image": torch.from_numpy(image)[None]}, [_image()], ())["image"]
    np.testing.assert_allclose(out[0].numpy(), image / 255 - 0.5, atol=1e-6)
