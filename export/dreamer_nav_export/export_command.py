"""What `dreamer-nav export` does with its arguments."""

from __future__ import annotations

from typing import Any

from dreamer_nav_export.int8_gate import export_int8
from dreamer_nav_export.writer import ExportOptions, export_run

__all__ = ["run"]


def run(args: Any) -> None:
    """Export, and where asked, the 8-bit file beside it."""
    options = ExportOptions(
        variant=args.variant,
        batch=args.batch,
        parity=not args.no_parity,
        control_hz=args.control_hz,
        max_staleness_s=args.max_staleness_s,
    )
    contract = export_run(args.path, args.output, options)
    size = args.output.stat().st_size
    print(f"Written: {args.output} ({size / 2**20:.1f} MiB, variant {contract.variant.name})")
    if contract.parity is not None:
        p = contract.parity
        print(
            f"Parity with torch over {p.steps} steps: logits within {p.max_error_logits:.1g}, state within "
            f"{p.max_error_state:.1g}, {p.latent_flips} latents and {p.action_flips} actions changed by rounding"
        )
    if args.int8:
        output = args.output.with_suffix(".int8.onnx")
        export_int8(
            args.path,
            args.output,
            output,
            options,
            episodes=args.int8_episodes,
            max_loss=args.int8_max_loss,
        )
        print(f"Written: {output} ({output.stat().st_size / 2**20:.1f} MiB)")
