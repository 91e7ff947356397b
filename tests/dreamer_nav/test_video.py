"""Videos: players can open them, and the pictures sit where they should."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from dreamer_nav.video import (
    as_rgb,
    label,
    open_loop_frames,
    side_by_side,
    upscale,
    write_mp4,
)


def plain(length: int, height: int, width: int, value: int) -> np.ndarray:
    return np.full((length, height, width, 3), value, np.uint8)


def read(path: Path) -> tuple[np.ndarray, float, str, str]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate is not None
        context = stream.codec_context
        return np.stack(frames), float(stream.average_rate), context.name, str(context.pix_fmt)


def test_a_written_video_comes_back_with_its_frames_rate_and_colours(tmp_path: Path) -> None:
    frames = np.zeros((12, 64, 96, 3), np.uint8)
    for i in range(12):
        frames[i, :, : 8 * (i + 1)] = (220, 40, 40)
    write_mp4(tmp_path / "a.mp4", frames, 10)
    found, fps, codec, layout = read(tmp_path / "a.mp4")
    assert found.shape == frames.shape
    assert fps == 10
    assert layout == "yuv420p"
    assert codec == ("h264" if "libx264" in av.codecs_available else "mpeg4")
    assert np.abs(found.astype(int) - frames).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(("height", "width"), [(65, 64), (64, 65), (63, 63), (1, 1)])
def test_odd_sizes_grow_by_a_pixel(tmp_path: Path, height: int, width: int) -> None:
    write_mp4(tmp_path / "a.mp4", plain(3, height, width, 200), 12.5)
    found, fps, _, _ = read(tmp_path / "a.mp4")
    assert found.shape == (3, height + height % 2, width + width % 2, 3)
    assert fps == 12.5
    assert np.abs(found.astype(int) - 200).max() < 8  # the edge is repeated, not black


def test_without_h264_an_mpeg4_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    write_mp4(tmp_path / "a.mp4", plain(5, 32, 32, 90), 25)
    found, _, codec, _ = read(tmp_path / "a.mp4")
    assert codec == "mpeg4"
    assert len(found) == 5


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(av.VideoFrame, "from_ndarray", fail, raising=False)
    with pytest.raises(OSError, match="No space left"):
        write_mp4(path, plain(2, 16, 16, 0), 10)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), 10, r"must be uint8 .* got float32"),
        (np.zeros((2, 8, 8, 1), np.uint8), 10, r"got uint8 \(2, 8, 8, 1\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), 10, r"got uint8 \(0, 8, 8, 3\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), 0, "fps must be positive, got 0"),
    ],
)
def test_frames_that_are_no_video_are_refused(
    tmp_path: Path, frames: np.ndarray, fps: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_mp4(tmp_path / "a.mp4", frames, fps)
    assert not list(tmp_path.iterdir())


def test_any_channels_become_rgb() -> None:
    assert as_rgb(np.array([[[0.5]]], np.float32)).tolist() == [[[128, 128, 128]]]
    assert as_rgb(np.array([[[-1.0, 0.0, 2.0]]])).tolist() == [[[0, 0, 255]]]
    assert as_rgb(np.array([[[1, 2, 3, 4]]], np.uint8)).tolist() == [[[1, 2, 3]]]
    assert as_rgb(np.array([[[7, 9]]], np.uint8)).tolist() == [[[7, 7, 7]]]
    assert as_rgb(np.array([[[np.nan]]])).tolist() == [[[0, 0, 0]]]


def test_enlarging_repeats_whole_pixels() -> None:
    frames = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    large = upscale(frames, 5)
    assert large.shape == (2, 6, 9, 3)
    np.testing.assert_array_equal(large[:, 1::3, 1::3], frames)
    np.testing.assert_array_equal(large[:, ::3, ::3], frames)
    assert upscale(frames, 1) is not None
    np.testing.assert_array_equal(upscale(frames, 2), frames)


def test_a_grid_fills_from_the_left_and_holds_last_frames() -> None:
    moving = np.stack([plain(1, 4, 4, 10)[0], plain(1, 4, 4, 20)[0]])
    grid = side_by_side([plain(3, 4, 6, 1), moving, plain(1, 2, 2, 3)], columns=2)
    assert grid.shape == (3, 8, 12, 3)
    assert (grid[:, :4, :6] == 1).all()
    assert grid[:, 0, 6, 0].tolist() == [10, 20, 20]
    assert (grid[:, 4:6, :2] == 3).all()
    assert (grid[:, 6:, :] == 0).all()
    assert side_by_side([moving, moving]).shape == (2, 4, 8, 3)


def test_labels_are_written_above() -> None:
    frames = plain(2, 40, 80, 99)
    labelled = label(frames, "truth")
    assert (labelled[:, -40:] == 99).all()
    strip = labelled[:, :-40]
    assert strip.max() > 150
    assert strip.min() < 50
    assert (label(frames, "model")[:, :-40] != strip).any()
    assert side_by_side([frames, frames], ["a", "b"]).shape == (2, labelled.shape[1], 160, 3)
    with pytest.raises(ValueError, match="got 2 videos and 1 labels"):
        side_by_side([frames, frames], ["a"])


def test_open_loop_shows_truth_model_and_signed_error_in_columns() -> None:
    truth = np.zeros((2, 4, 8, 8, 1), np.float32)
    truth[0], truth[1] = 0.2, 0.8
    model = np.full_like(truth, 0.6)
    frames = open_loop_frames(truth, model, context=3, min_size=64)
    assert frames.shape == (4, 3 * 64, 2 * 64, 3)
    middle = frames[3, 32::64, 32::64, 0].astype(int)
    np.testing.assert_array_equal(middle, [[51, 204], [153, 153], [178, 102]])
    bars = (frames[:, 64, 32, 1] > frames[:, 64, 32, 0]).tolist()
    assert bars == [True, True, True, False]
    same = open_loop_frames(truth, truth, context=0)
    assert set(np.unique(same[:, 2 * 128 :])) == {127}


def test_open_loop_refuses_pictures_that_do_not_match() -> None:
    with pytest.raises(ValueError, match=r"must be \(N, T, H, W, C\)"):
        open_loop_frames(np.zeros((1, 2, 8, 8, 1)), np.zeros((1, 3, 8, 8, 1)), 1)
