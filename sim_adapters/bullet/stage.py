"""Puts a scene into PyBullet: one static body for every material."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import DefaultDict, Dict, List, Optional, Tuple

import numpy as np

from sim_adapters.bullet.furniture import Box
from sim_adapters.bullet.layout import CEILING_M
from sim_adapters.bullet.scene import Scene
from sim_adapters.bullet.textures import TILE_M, pictures, write_png

STRETCHED = ("art0", "art1", "art2", "window")
"""Materials whose picture is shown once on the whole face instead of tiling."""


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
    # Pictures have their first row at the top.
    uvs = np.stack([uvs[..., 0], 1.0 - uvs[..., 1] if stretched else uvs[..., 1]], axis=-1)
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
    """

    def __init__(self, client: int) -> None:
        self._client = client
        self._bodies: List[int] = []
        self._textures: Dict[str, int] = {}
        self._shown: Optional[str] = None
        self._count = 0

    def show(self, scene: Scene) -> None:
        """Replace what is shown by `scene`; returns at once if it is shown already."""
        if scene.scene_id == self._shown:
            return
        self.clear()
        if scene.layout is not None:
            by_material: DefaultDict[str, List[Box]] = defaultdict(list)
            for box in scene.layout.boxes:
                by_material[box.material].append(box)
            for material in sorted(by_material):
                paint = scene.layout.paints[material]
                self._add_boxes(by_material[material], material, paint.picture, paint.tint)
        else:
            self._add_mesh(scene)
        self._shown = scene.scene_id

    def clear(self) -> None:
        """Show nothing."""
        import pybullet

        # PyBullet keeps visual shapes of removed bodies for ever; only a reset frees them.
        pybullet.resetSimulation(physicsClientId=self._client)
        self._bodies, self._textures, self._shown = [], {}, None

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
        shape = pybullet.createVisualShape(
            pybullet.GEOM_MESH,
            vertices=vertices.tolist(),
            indices=indices.tolist(),
            normals=normals.tolist(),
            uvs=uvs.tolist(),
            rgbaColor=(*tint, 1.0),
            physicsClientId=self._client,
        )
        body = pybullet.createMultiBody(
            baseMass=0.0, baseVisualShapeIndex=shape, physicsClientId=self._client
        )
        pybullet.changeVisualShape(
            body, -1, textureUniqueId=self._texture(picture), physicsClientId=self._client
        )
        self._bodies.append(body)

    def _add_mesh(self, scene: Scene) -> None:
        import pybullet

        shape = pybullet.createVisualShape(
            pybullet.GEOM_MESH, fileName=str(scene.mesh), physicsClientId=self._client
        )
        body = pybullet.createMultiBody(
            baseMass=0.0, baseVisualShapeIndex=shape, physicsClientId=self._client
        )
        self._bodies.append(body)


_FILES: Dict[str, Path] = {}
_FOLDER: List["tempfile.TemporaryDirectory[str]"] = []


def _picture_files() -> Dict[str, Path]:
    """Files of all pictures, written once a process into a folder that goes when it ends."""
    if not _FILES:
        _FOLDER.append(tempfile.TemporaryDirectory(prefix="sim_adapters_bullet_"))
        for name, picture in pictures().items():
            path = Path(_FOLDER[0].name) / (name + ".png")
            write_png(path, picture)
            _FILES[name] = path
    return _FILES
