"""Puts a scene into PyBullet: one static body for every material."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import DefaultDict, Dict, List, Optional, Tuple

import numpy as np

from sim_adapters.bullet.furniture import Box
from sim_adapters.bullet.scene import Scene
from sim_adapters.bullet.textures import TILE_M, pictures, write_png

STRETCHED = ("art0", "art1", "art2", "window")
"""Materials whose picture is shown once on the whole face instead of tiling."""
BACKGROUND = ("partition", "wall0", "wall1", "floor", "ceiling")


def _near_first(material: str) -> Tuple[int, str]:
    """Sort key that puts what hides other things first: hidden pixels are then not shaded."""
    return (BACKGROUND.index(material) + 1 if material in BACKGROUND else 0), material


def _unit_cube() -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners (6, 4, 3) in {0, 1}, outward normals (6, 3) and in-plane axes (6, 2)."""
    corners, normals, axes = [], [], []
    for axis in range(3):
        u, v = ((1, 2), (0, 2), (0, 1))[axis]
        for side in (0, 1):
            face = np.zeros((4, 3))
            face[:, axis] = side
            face[:, u], face[:, v] = (0, 1, 1, 0), (0, 0, 1, 1)
            normal = np.zeros(3)
            normal[axis] = 2 * side - 1
            if np.dot(np.cross(face[1] - face[0], face[2] - face[0]), normal) < 0:
                face = face[::-1]
            corners.append(face)
            normals.append(normal)
            axes.append((u, v))
    return np.array(corners), np.array(normals), np.array(axes)


_CORNERS, _NORMALS, _AXES = _unit_cube()


class _Rows:
    """Lists that are filled again and again with the rows of arrays.

    PyBullet never lets go of the lists of numbers that it is given (no release of what
    PySequence_Fast returns): with new lists every scene would cost 0.6 MB for good.
    """

    def __init__(self) -> None:
        self._rows: List[List[float]] = []

    def fill(self, array: np.ndarray) -> List[List[float]]:
        """The rows of `array` (n, k); clear the list after use."""
        while len(self._rows) < len(array):
            self._rows.append([])
        rows = self._rows[: len(array)]
        for row, values in zip(rows, array.tolist()):
            row[:] = values
        return rows


_VERTEX_ROWS, _NORMAL_ROWS, _UV_ROWS = _Rows(), _Rows(), _Rows()


def box_mesh(
    boxes: List[Box], stretched: bool = False
) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (n, 3), normals (n, 3), texture coordinates (n, 2), triangle indices (m,).

    Each face has its own four vertices. Texture coordinates are world metres over `TILE_M`, or
    0 to 1 over each face if `stretched`.
    """
    low = np.array([box.low for box in boxes])[:, None, None, :]
    high = np.array([box.high for box in boxes])[:, None, None, :]
    vertices = low + _CORNERS[None] * (high - low)  # (boxes, 6, 4, 3)
    source = np.broadcast_to(_CORNERS[None], vertices.shape) if stretched else vertices / TILE_M
    axes = np.broadcast_to(_AXES[None, :, None, :], (*vertices.shape[:3], 2))
    uvs = np.take_along_axis(source, axes, axis=3)
    if not stretched:
        uvs = uvs - np.floor(uvs.min())  # the renderer wraps positive coordinates only
    normals = np.broadcast_to(_NORMALS[None, :, None, :], vertices.shape)
    first = 4 * np.arange(vertices.shape[0] * 6)[:, None]
    indices = (first + np.array([0, 1, 2, 0, 2, 3])).ravel()
    return vertices.reshape(-1, 3), normals.reshape(-1, 3), uvs.reshape(-1, 2), indices


class Stage:
    """What a PyBullet client shows: one scene at a time.

    Arguments:
        client: PyBullet's physics client; it must be empty.
        coloured: False where only depth is looked at: one grey body, a fifth faster to render.
    """

    def __init__(self, client: int, coloured: bool = True) -> None:
        self._client = client
        self._coloured = coloured
        self._textures: Dict[str, int] = {}
        self._shown: Optional[str] = None

    def show(self, scene: Scene) -> None:
        """Replace what is shown by `scene`; returns at once if it is shown already."""
        if scene.scene_id == self._shown:
            return
        self.clear()
        if scene.layout is None:
            self._add_mesh(scene)
        elif self._coloured:
            by_material: DefaultDict[str, List[Box]] = defaultdict(list)
            for box in scene.layout.boxes:
                by_material[box.material].append(box)
            for material in sorted(by_material, key=_near_first):
                paint = scene.layout.paints[material]
                self._add_boxes(by_material[material], material, paint.picture, paint.tint)
        else:
            boxes = sorted(scene.layout.boxes, key=lambda box: _near_first(box.material))
            self._add_boxes(boxes, "", "", (1.0, 1.0, 1.0))
        self._shown = scene.scene_id

    def clear(self) -> None:
        """Show nothing."""
        import pybullet

        # Visual shapes of removed bodies stay; only a reset frees them.
        pybullet.resetSimulation(physicsClientId=self._client)
        self._textures, self._shown = {}, None

    def _texture(self, name: str) -> int:
        import pybullet

        if name not in self._textures:
            path = _picture_files()[name]
            self._textures[name] = pybullet.loadTexture(str(path), physicsClientId=self._client)
        return self._textures[name]

    def _add_boxes(
        self, boxes: List[Box], material: str, picture: str, tint: Tuple[float, float, float]
    ) -> None:
        import pybullet

        vertices, normals, uvs, indices = box_mesh(boxes, material in STRETCHED)
        mesh = [
            _VERTEX_ROWS.fill(vertices),
            _NORMAL_ROWS.fill(normals),
            _UV_ROWS.fill(uvs),
            indices.tolist(),
        ]
        shape = pybullet.createVisualShape(
            pybullet.GEOM_MESH,
            vertices=mesh[0],
            normals=mesh[1],
            uvs=mesh[2],
            indices=mesh[3],
            rgbaColor=(*tint, 1.0),
            physicsClientId=self._client,
        )
        for part in mesh:
            part.clear()
        body = pybullet.createMultiBody(
            baseMass=0.0, baseVisualShapeIndex=shape, physicsClientId=self._client
        )
        if picture:
            pybullet.changeVisualShape(
                body, -1, textureUniqueId=self._texture(picture), physicsClientId=self._client
            )

    def _add_mesh(self, scene: Scene) -> None:
        import pybullet

        shape = pybullet.createVisualShape(
            pybullet.GEOM_MESH,
            fileName=str(scene.mesh),
            flags=pybullet.VISUAL_SHAPE_DOUBLE_SIDED,
            physicsClientId=self._client,
        )
        pybullet.createMultiBody(
            baseMass=0.0, baseVisualShapeIndex=shape, physicsClientId=self._client
        )


_FILES: Dict[str, Path] = {}
_FOLDER: List[tempfile.TemporaryDirectory[str]] = []


def _picture_files() -> Dict[str, Path]:
    """Files of all pictures, written once a process into a folder that goes when it ends."""
    if not _FILES:
        _FOLDER.append(tempfile.TemporaryDirectory(prefix="sim_adapters_bullet_"))
        for name, picture in pictures().items():
            path = Path(_FOLDER[0].name) / (name + ".png")
            write_png(path, picture)
            _FILES[name] = path
    return _FILES
