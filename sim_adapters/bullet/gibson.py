"""Scenes in the Gibson layout: a folder with `mesh_z_up.obj` and `floors.txt`.

`floors.txt` holds the height of each floor in metres, one a line. Where the agent may go is read
off the mesh: rays down find the floor, rays across find what a body of the agent's height would
hit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List, Tuple

import numpy as np

from sim_adapters.bullet.geodesic import CELL_M
from sim_adapters.bullet.scene import AGENT_RADIUS_M, Scene, build_floor

MESH = "mesh_z_up.obj"
FLOORS = "floors.txt"
STEP_M = 0.1
"""What is lower than this above the floor is driven over."""
AGENT_HEIGHT_M = 0.95
HEIGHTS_M = (0.15, 0.35, 0.55, 0.75, 0.9)
"""Heights above the floor of the rays across."""
BATCH = 10000
"""Rays per call; PyBullet takes 16384 at most."""


def gibson_folder(scene_id: str, scenes_dir: str) -> Path:
    """Folder of a scene given by name ("Rs"), by path, or as habitat does ("gibson/Rs.glb").

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing in it.
    """
    path = Path(scene_id)
    if path.name == MESH:
        path = path.parent
    name = path.stem if path.suffix in (".glb", ".obj", ".ply") else path.name
    tried = [path, Path(scenes_dir) / path, Path(scenes_dir) / name] if scenes_dir else [path]
    for folder in tried:
        if folder.is_dir():
            for needed in (MESH, FLOORS):
                if not (folder / needed).is_file():
                    raise FileNotFoundError(
                        f"scene {scene_id!r}: {folder} has no {needed} "
                        f"(the Gibson layout needs {MESH} and {FLOORS})"
                    )
            return folder
    raise FileNotFoundError(
        "scene {!r} is neither a procedural scene nor a folder; looked for {}. Set scenes_dir to "
        "the folder that holds the scenes".format(scene_id, ", ".join(str(t) for t in tried))
    )


def read_floors(path: Path) -> List[float]:
    """Heights of the floors, metres, lowest first.

    Raises:
        ValueError: the file holds no number, or something else.
    """
    try:
        heights = [float(line) for line in path.read_text(encoding="utf-8").split()]
    except ValueError as error:
        raise ValueError(f"{path} must hold one height a line: {error}") from error
    if not heights:
        raise ValueError(f"{path} is empty; it must hold one floor height (metres) a line")
    return sorted(heights)


def gibson_scene(scene_id: str, scenes_dir: str, radius: float = AGENT_RADIUS_M) -> Scene:
    """Load a scene and work out where an agent of `radius` metres may go on each floor.

    Floors on which the agent fits nowhere are left out.

    Raises:
        FileNotFoundError: see `gibson_folder`.
        ValueError: the mesh cannot be read or has no floor for the agent.
    """
    import pybullet

    folder = gibson_folder(scene_id, scenes_dir)
    heights = read_floors(folder / FLOORS)
    client = pybullet.connect(pybullet.DIRECT)
    try:
        bounds = _load_mesh(folder / MESH, client)
        floors = []
        for height in heights:
            occupied = occupied_cells(bounds, height, client)
            obstacles = merge_cells(occupied, bounds[:2], CELL_M)
            try:
                grid_bounds = _grid_bounds(occupied, bounds)
                floors.append(build_floor(height, obstacles, grid_bounds, radius))
            except ValueError:
                continue  # an attic or a roof
    finally:
        pybullet.disconnect(physicsClientId=client)
    if not floors:
        raise ValueError(f"{folder}: the agent fits nowhere at the heights {heights} of {FLOORS}")
    return Scene(scene_id, floors, mesh=folder / MESH)


def _load_mesh(path: Path, client: int) -> Tuple[float, float, float, float]:
    """Put the mesh into PyBullet for ray casting; returns its bounds on the floor plane."""
    import pybullet

    try:
        shape = pybullet.createCollisionShape(
            pybullet.GEOM_MESH,
            fileName=str(path),
            flags=pybullet.GEOM_FORCE_CONCAVE_TRIMESH,
            physicsClientId=client,
        )
        body = pybullet.createMultiBody(0.0, shape, physicsClientId=client)
    except pybullet.error as error:
        raise ValueError(f"PyBullet cannot read the mesh {path}: {error}") from error
    low, high = pybullet.getAABB(body, physicsClientId=client)
    return low[0], low[1], high[0], high[1]


def occupied_cells(
    bounds: Tuple[float, float, float, float], height: float, client: int
) -> np.ndarray:
    """Cells that hold an obstacle or no floor: bool (nx, ny), the border included.

    Arguments:
        bounds: (x_low, y_low, x_high, y_high) of the mesh, metres.
        height: of the floor, metres.
        client: physics client that holds the mesh.
    """
    shape = tuple(max(1, int(np.ceil((bounds[k + 2] - bounds[k]) / CELL_M))) for k in (0, 1))
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    centres = np.array(bounds[:2]) + (centres + 0.5) * CELL_M
    flat = centres.reshape(-1, 2)
    top, bottom = height + AGENT_HEIGHT_M, height - 0.3
    hit = _cast(_at(flat, top), _at(flat, bottom), client)
    level = top + hit * (bottom - top)
    occupied = (~(hit <= 1.0) | (level > height + STEP_M)).reshape(shape)
    for axis in (0, 1):
        ahead = [slice(None), slice(None)]
        behind = [slice(None), slice(None)]
        behind[axis], ahead[axis] = slice(None, -1), slice(1, None)
        start = centres[tuple(behind)].reshape(-1, 2)
        end = centres[tuple(ahead)].reshape(-1, 2)
        for above in HEIGHTS_M:
            hit = _cast(_at(start, height + above), _at(end, height + above), client)
            hit = hit.reshape(occupied[tuple(behind)].shape)
            occupied[tuple(behind)] |= hit <= 0.5
            occupied[tuple(ahead)] |= (hit > 0.5) & (hit <= 1.0)
    occupied[[0, -1], :] = True
    occupied[:, [0, -1]] = True
    return occupied


def _at(points: np.ndarray, height: float) -> np.ndarray:
    return np.hstack([points, np.full((len(points), 1), height)])


def _cast(starts: np.ndarray, ends: np.ndarray, client: int) -> np.ndarray:
    """Fraction of each ray at its first hit: (n,); infinite without one."""
    import pybullet

    fractions = np.full(len(starts), np.inf)
    for first in range(0, len(starts), BATCH):
        part = slice(first, first + BATCH)
        hits = pybullet.rayTestBatch(
            starts[part].tolist(), ends[part].tolist(), physicsClientId=client
        )
        fractions[part] = [h[2] if h[0] >= 0 else np.inf for h in hits]
    return fractions


def _grid_bounds(
    occupied: np.ndarray, bounds: Tuple[float, float, float, float]
) -> Tuple[float, float, float, float]:
    nx, ny = occupied.shape
    return bounds[0], bounds[1], bounds[0] + nx * CELL_M, bounds[1] + ny * CELL_M


def merge_cells(occupied: np.ndarray, origin: Tuple[float, float], cell: float) -> np.ndarray:
    """Rectangles (n, 4) that cover the occupied cells, few and without overlap."""
    done: List[Tuple[int, int, int, int]] = []
    growing: List[Tuple[int, int, int]] = []  # (first row, first column, last column + 1)
    for row in range(occupied.shape[0] + 1):
        runs = set(_runs(occupied[row])) if row < occupied.shape[0] else set()
        still = [g for g in growing if (g[1], g[2]) in runs]
        done.extend((g[0], g[1], row, g[2]) for g in growing if (g[1], g[2]) not in runs)
        known = {(g[1], g[2]) for g in still}
        growing = still + [(row, a, b) for a, b in sorted(runs - known)]
    if not done:
        return np.zeros((0, 4))
    x, y = origin[0], origin[1]
    return np.array(done, dtype=np.float64) * cell + np.array([x, y, x, y])


def _runs(row: np.ndarray) -> Iterator[Tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
    for first, end in zip(edges[::2], edges[1::2]):
        yield int(first), int(end)
