"""A contract as lines for a person."""

from __future__ import annotations

from typing import Iterator, Optional

from dreamer_nav_export.contract import Contract, Observation

__all__ = ["describe"]


def describe(spec: Contract) -> str:
    """What the policy takes and gives, where it comes from and how good it is."""
    return "\n".join(_lines(spec))


def _lines(spec: Contract) -> Iterator[str]:
    origin = spec.provenance
    yield "{} on {}, {:,} steps, seed {}".format(
        origin.algorithm, origin.environment, origin.steps, origin.seed
    )
    yield "variant {}: latents {}, actions {}".format(
        spec.variant.name, spec.variant.latents, spec.variant.actions
    )
    yield "precision {}".format(origin.quantization or origin.precision)
    yield "observations:"
    for observation in spec.observations:
        yield "  {}".format(_observation(observation))
    yield "actions:"
    for line in _actions(spec):
        yield "  {}".format(line)
    rate = spec.control.rate_hz
    yield "control: {}, observations at most {:g} s old".format(
        "{:g} Hz".format(rate) if rate else "when the last motion has ended",
        spec.control.max_staleness_s,
    )
    yield "state: {}".format(
        ", ".join("{} {}{}".format(s.input, s.dtype, s.shape) for s in spec.state)
    )
    for evaluation in spec.evaluations:
        figures = ", ".join(
            "{} {:.3g} [{:.3g}, {:.3g}]".format(name, m["mean"], m["low"], m["high"])
            for name, m in sorted(evaluation.measures.items())
        )
        count = int(max(m["n"] for m in evaluation.measures.values()))
        yield "evaluation {} ({}, n = {}): {}".format(
            evaluation.name, evaluation.by, count, figures
        )
    if not spec.evaluations:
        yield "evaluation: none of this variant"
    if spec.parity is not None:
        yield "parity with torch: {} steps, largest differences {:.1g} (logits), {:.1g} (state), {} flips".format(
            spec.parity.steps,
            spec.parity.max_error_logits,
            spec.parity.max_error_state,
            spec.parity.latent_flips + spec.parity.action_flips,
        )
    else:
        yield "parity with torch: not checked"
    yield "config sha256 {}".format(origin.config_sha256)
    yield "commit {}; {}".format(
        origin.commit or "unknown",
        ", ".join("{} {}".format(k, v) for k, v in sorted(origin.versions.items())),
    )


def _observation(o: Observation) -> str:
    text = "{}: {} {}{}".format(o.name, o.kind, o.dtype, o.shape)
    if o.is_image:
        text += " {}".format(o.layout)
    if o.channels:
        text += " {}".format("".join(o.channels))
    names = o.components or ("",) * len(o.low)
    units = o.units or ("",) * len(o.low)
    bounds = list(zip(names, o.low, o.high, units))
    if len(bounds) <= 4:
        for name, low, high, unit in bounds:
            text += ", {} [{}, {}] {}".format(name, _bound(low), _bound(high), unit).rstrip()
    if o.invalid is not None:
        text += "; {:g} for {}".format(o.invalid.value, o.invalid.meaning)
    if o.camera is not None and o.camera.hfov_deg is not None:
        text += "; camera height {} m, pitch {} deg, hfov {} deg".format(
            o.camera.height_m, o.camera.pitch_deg, o.camera.hfov_deg
        )
    if o.sign is not None:
        text += "; {}; {}".format(o.frame, o.sign)
    return text


def _bound(value: Optional[float]) -> str:
    return "any" if value is None else "{:.6g}".format(value)


def _actions(spec: Contract) -> Iterator[str]:
    means = None
    if spec.discrete is not None:
        means = spec.discrete.stop_means
        for c in spec.discrete.choices:
            motion = "" if c.magnitude is None else " {:+.4g} {}".format(c.magnitude, c.unit)
            yield "{} {}{}".format(c.index, c.name, motion)
    elif spec.continuous is not None:
        means = spec.continuous.stop_means
        for k in spec.continuous.components:
            text = "{} [{:g}, {:g}]".format(k.name, k.low, k.high)
            if k.scale is not None and k.offset is not None:
                ends = sorted(k.offset + k.scale * v for v in (k.low, k.high))
                text += " = [{:.4g}, {:.4g}] {}".format(ends[0], ends[1], k.unit)
            yield text
    if means is not None:
        yield "stop: {}".format(means)
