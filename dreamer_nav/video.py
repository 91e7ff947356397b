"""Videos: mp4 files, and the pictures that are put side by side in them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from dreamer_nav.atomic import atomic_path

__all__ = ["as_rgb", "label", "open_loop_frames", "side_by_side", "upscale", "write_mp4"]

_LABEL_HEIGHT = 14  # pixels of Pillow's built-in font and its margins
_CONTEXT_COLOUR = (90, 200, 90)


def write_mp4(path: Path, frames: np.ndarray, fps: float | int) -> None:
    """Write frames to an mp4 file that any player and browser opens.

    H.264 where PyAV's libraries have it, else MPEG-4. Odd sizes grow by one pixel, which yuv420p
    requires. The file appears when it is complete.

    Args:
        path: ends in .mp4; its folder exists.
        frames: uint8 (T, H, W, 3), T >= 1.
        fps: frames per second, > 0.

    Raises:
        ValueError: other frames or fps; OSError: the file cannot be written.
    """
    import av

    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(f"frames must be uint8 (T, H, W, 3), got {frames.dtype} {frames.shape}")
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    frames = np.pad(
        frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge"
    )
    h264 = "libx264" in av.codecs_available
    options = {"crf": "18", "preset": "veryfast"} if h264 else {"qscale": "3"}
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("libx264" if h264 else "mpeg4", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def as_rgb(images: np.ndarray) -> np.ndarray:
    """Images (..., H, W, C), uint8 or floats in [0, 1], as uint8 (..., H, W, 3).

    One or two channels show the first in gray; more than three show the first three.
    """
    if images.dtype != np.uint8:
        images = np.rint(np.clip(np.nan_to_num(images), 0.0, 1.0) * 255.0).astype(np.uint8)
    if images.shape[-1] < 3:
        return np.repeat(images[..., :1], 3, axis=-1)
    return images[..., :3]


def upscale(frames: np.ndarray, min_size: int) -> np.ndarray:
    """Repeat pixels of (..., H, W, C) so that both sides have at least `min_size`."""
    factor = max(1, -(-min_size // min(frames.shape[-3], frames.shape[-2])))
    return frames.repeat(factor, axis=-3).repeat(factor, axis=-2)


def label(frames: np.ndarray, text: str) -> np.ndarray:
    """Frames, uint8 (..., H, W, 3), with a line of text on a dark strip above them."""
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (frames.shape[-2], _LABEL_HEIGHT), (24, 24, 24))
    ImageDraw.Draw(strip).text((3, 1), text, fill=(235, 235, 235))
    above = np.broadcast_to(np.asarray(strip), (*frames.shape[:-3], *np.asarray(strip).shape))
    return np.concatenate([above, frames], axis=-3)


def side_by_side(
    videos: Sequence[np.ndarray], labels: Sequence[str] | None = None, columns: int | None = None
) -> np.ndarray:
    """Put videos in a grid.

    Shorter ones hold their last frame, smaller ones are padded with black, rows are filled from the
    left.

    Args:
        videos: each uint8 (T, H, W, 3), T, H and W as they are.
        labels: a text above each.
        columns: videos in a row; all of them when None.

    Returns:
        uint8 (max T, rows * max H, columns * max W, 3).
    """
    if not videos or (labels is not None and len(labels) != len(videos)):
        raise ValueError(f"got {len(videos)} videos and {len(labels or ())} labels")
    if labels is not None:
        videos = [label(video, text) for video, text in zip(videos, labels, strict=True)]
    columns = columns or len(videos)
    length, height, width = (max(video.shape[axis] for video in videos) for axis in range(3))
    rows = -(-len(videos) // columns)
    grid = np.zeros((length, rows * height, columns * width, 3), np.uint8)
    for i, video in enumerate(videos):
        top, left = i // columns * height, i % columns * width
        last = np.minimum(np.arange(length), len(video) - 1)
        grid[:, top : top + video.shape[1], left : left + video.shape[2]] = video[last]
    return grid


def open_loop_frames(
    truth: np.ndarray, model: np.ndarray, context: int, min_size: int = 128
) -> np.ndarray:
    """Truth, model and error under each other, one column a sequence.

    The first `context` frames, where the model still saw the truth, have a green bar on the model's
    picture. The error is signed: middle gray is none.

    Args:
        truth: (N, T, H, W, C), uint8 or floats in [0, 1].
        model: reconstruction, then open-loop prediction; the shape of `truth`, uint8 or float.
        context: frames of context, 0..T.
        min_size: pictures are enlarged to at least this many pixels a side.

    Returns:
        uint8 (T, 3 * H * k, N * W * k, 3) with k the enlargement.
    """
    if truth.shape != model.shape or truth.ndim != 5:
        raise ValueError(
            f"truth and model must be (N, T, H, W, C); got {truth.shape}, {model.shape}"
        )
    seen, guess = as_rgb(truth), as_rgb(model)
    error = ((guess.astype(np.int16) - seen.astype(np.int16) + 255) // 2).astype(np.uint8)
    seen, guess, error = (upscale(images, min_size) for images in (seen, guess, error))
    bar = max(2, guess.shape[2] // 32)
    guess[:, :context, :bar] = _CONTEXT_COLOUR
    stacked = np.concatenate([seen, guess, error], axis=2)
    return np.concatenate(list(stacked), axis=2)
