"""Geodesic distances on an occupancy grid of the floor.

A cell is free when the agent's disc, centred on it, sinks at most half a cell into an obstacle, so
that the free area is neither too small nor too large on average. Distances come from Dijkstra's
algorithm over 32 directions of movement: at most 1.4% longer than the truth on the grid, where 8
directions would be up to 8% longer. In furnished rooms they are 0.8% too long on average.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple, Union

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Point = Union[Sequence[float], np.ndarray]

CELL_M = 0.05
SNAP_M = 0.6
"""Positions farther than this from every free cell have no geodesic distance."""


def _half_directions(reach: int = 3) -> List[Tuple[int, int]]:
    """One of each pair of opposite directions with coprime components up to `reach`."""
    return [
        (i, j)
        for i in range(0, reach + 1)
        for j in range(-reach, reach + 1)
        if gcd(i, abs(j)) == 1 and (i > 0 or j > 0)
    ]


def _crossed(di: int, dj: int) -> List[Tuple[int, int]]:
    """Cells between (0, 0) and (di, dj), both excluded, that the segment passes through."""
    steps = np.linspace(0.0, 1.0, 61)[1:-1]
    cells = set()
    for t in steps:
        for nudge in (-1e-6, 1e-6):
            cells.add((int(np.floor(di * t + 0.5 + nudge)), int(np.floor(dj * t + 0.5 + nudge))))
            cells.add((int(np.floor(di * t + 0.5 + nudge)), int(np.floor(dj * t + 0.5 - nudge))))
    return sorted(cells - {(0, 0), (di, dj)})


DIRECTIONS = [(d, _crossed(*d)) for d in _half_directions()]


def free_cells(
    bounds: Sequence[float], rectangles: np.ndarray, radius: float, cell: float = CELL_M
) -> np.ndarray:
    """Which cell centres keep `radius` metres from every rectangle: bool (nx, ny).

    Arguments:
        bounds: (x_low, y_low, x_high, y_high) of the grid, metres.
        rectangles: obstacles (n, 4).
    """
    nx = max(1, round((bounds[2] - bounds[0]) / cell))
    ny = max(1, round((bounds[3] - bounds[1]) / cell))
    xs = bounds[0] + (np.arange(nx) + 0.5) * cell
    ys = bounds[1] + (np.arange(ny) + 0.5) * cell
    free = np.ones((nx, ny), dtype=bool)
    for x0, y0, x1, y1 in rectangles:
        i = slice(*np.searchsorted(xs, (x0 - radius, x1 + radius)))
        j = slice(*np.searchsorted(ys, (y0 - radius, y1 + radius)))
        gap_x = np.maximum(np.maximum(x0 - xs[i], xs[i] - x1), 0.0)
        gap_y = np.maximum(np.maximum(y0 - ys[j], ys[j] - y1), 0.0)
        free[i, j] &= gap_x[:, None] ** 2 + gap_y[None, :] ** 2 >= (radius - 1e-9) ** 2
    return free


class NavGrid:
    """Where the agent's centre may be, and how far everything is from everything.

    Arguments:
        free: bool (nx, ny), True where the agent's centre may be.
        origin: (x, y) of the low corner of cell (0, 0), metres.
        cell: side of a cell, metres.
    """

    def __init__(self, free: np.ndarray, origin: Sequence[float], cell: float = CELL_M) -> None:
        from scipy import ndimage

        if not free.any():
            raise ValueError("the scene has no place where the agent fits")
        self.free = free
        self.origin = np.asarray(origin, dtype=np.float64)[:2]
        self.cell = float(cell)
        self.component, count = ndimage.label(free, structure=np.ones((3, 3)))
        sizes = np.bincount(self.component.ravel(), minlength=count + 1)
        sizes[0] = 0
        self.main_component = int(np.argmax(sizes))
        self.main_fraction = float(sizes[self.main_component] / free.sum())
        self._gap, self._nearest = ndimage.distance_transform_edt(~free, return_indices=True)
        self._number = np.full(free.shape, -1, dtype=np.int32)
        self._number[free] = np.arange(int(free.sum()), dtype=np.int32)
        self._edges: Optional[Tuple[np.ndarray, np.ndarray, np.ndarray]] = None
        self._goal: Optional[Tuple[float, float]] = None
        self._field: Optional[np.ndarray] = None

    def centre(self, index: np.ndarray) -> np.ndarray:
        """Metres (..., 2) of cell indices (..., 2)."""
        return self.origin + (np.asarray(index) + 0.5) * self.cell

    def index(self, point: Point) -> Tuple[int, int]:
        """The cell that holds `point`, clipped to the grid."""
        raw = np.floor((np.asarray(point, dtype=np.float64)[:2] - self.origin) / self.cell)
        i, j = np.clip(raw, 0, np.array(self.free.shape) - 1).astype(int)
        return int(i), int(j)

    def snap(self, point: Point) -> Optional[Tuple[int, int]]:
        """The free cell nearest to `point`, or None farther than `SNAP_M` from any."""
        i, j = self.index(point)
        cell = int(self._nearest[0, i, j]), int(self._nearest[1, i, j])
        if np.abs(self.centre(np.array(cell)) - np.asarray(point)[:2]).max() > SNAP_M:
            return None
        return cell

    def same_component(self, a: Point, b: Point) -> bool:
        """Whether the free cells nearest to two points are connected."""
        first, second = self.snap(a), self.snap(b)
        if first is None or second is None:
            return False
        return bool(self.component[first] == self.component[second])

    def field(self, goal: Point) -> np.ndarray:
        """Geodesic metres from every cell to `goal`: float64 (nx, ny), inf where unreachable.

        The last goal's field is kept.
        """
        from scipy.sparse import csgraph

        key = (float(goal[0]), float(goal[1]))
        if self._goal == key and self._field is not None:
            return self._field
        field = np.full(self.free.shape, np.inf)
        if self.snap(goal) is not None:
            graph = self._graph_with(np.array(key))
            flat = csgraph.dijkstra(graph, directed=False, indices=graph.shape[0] - 1)
            field[self.free] = flat[:-1]
        self._goal, self._field = key, field
        return field

    def distance(self, point: Point, goal: Point) -> float:
        """Geodesic metres from `point` to `goal`, inf if there is no way.

        Bilinear between the four cells around the point; beside an obstacle, where not all four
        are free, the shortest way through a free cell nearby.
        """
        field = self.field(goal)
        where = (np.asarray(point, dtype=np.float64)[:2] - self.origin) / self.cell - 0.5
        low = np.floor(where).astype(int)
        if (low >= 0).all() and (low + 1 < self.free.shape).all():
            patch = field[low[0] : low[0] + 2, low[1] : low[1] + 2]
            if np.isfinite(patch).all():
                u, v = where - low
                return float(np.array([1 - u, u]) @ patch @ np.array([1 - v, v]))
        return self._distance_beside_obstacle(np.asarray(point, dtype=np.float64)[:2], field)

    def path(self, point: Point, goal: Point) -> np.ndarray:
        """Corners (n, 2) of a shortest path, both ends included; (0, 2) if there is none."""
        field = self.field(goal)
        cell = self.snap(point)
        if cell is None or not np.isfinite(field[cell]):
            return np.zeros((0, 2))
        cells = [cell]
        while field[cells[-1]] > 1.5 * self.cell and len(cells) < self.free.size:
            cells.append(self._downhill(cells[-1], field))
        inner = self.centre(np.array(cells))
        corners = np.vstack([np.asarray(point)[:2], inner, np.asarray(goal)[:2]])
        return self._pull(corners)

    def line_is_free(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether all cells on the segment are free (sampled four times a cell)."""
        count = max(2, int(np.ceil(np.linalg.norm(b - a) / self.cell * 4)) + 1)
        points = a + np.linspace(0.0, 1.0, count)[:, None] * (b - a)
        i, j = np.floor((points - self.origin) / self.cell).astype(int).T
        inside = (i >= 0) & (j >= 0) & (i < self.free.shape[0]) & (j < self.free.shape[1])
        return bool(inside.all() and self.free[i, j].all())

    def _graph_with(self, goal: np.ndarray) -> csr_matrix:
        """The cells' graph with the goal as its last node, joined to the cells around it."""
        from scipy.sparse import coo_matrix

        if self._edges is None:
            self._edges = self._cell_edges()
        rows, columns, weights = self._edges
        cells = self._cells_around(goal)
        size = int(self._number.max()) + 1
        rows = np.concatenate([rows, np.full(len(cells), size, dtype=np.int32)])
        columns = np.concatenate([columns, self._number[cells[:, 0], cells[:, 1]]])
        # A stored zero would be read as no edge.
        ways = np.maximum(np.linalg.norm(self.centre(cells) - goal, axis=1), 1e-9)
        weights = np.concatenate([weights, ways])
        return coo_matrix((weights, (rows, columns)), shape=(size + 1, size + 1)).tocsr()

    def _cells_around(self, point: np.ndarray) -> np.ndarray:
        """Free cells (n, 2) within two cells of `point`, else the nearest free cell."""
        i, j = self.index(point)
        low = np.array([max(0, i - 2), max(0, j - 2)])
        cells = np.argwhere(self.free[low[0] : i + 3, low[1] : j + 3]) + low
        if len(cells):
            return cells
        return self._nearest[:, i, j][None, :].astype(int)

    def _cell_edges(self) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, columns, weights = [], [], []
        for (di, dj), crossed in DIRECTIONS:
            open_ = self._shifted_and([(0, 0), *crossed, (di, dj)], di, dj)
            i, j = np.nonzero(open_)
            j = j + max(0, -dj)
            rows.append(self._number[i, j])
            columns.append(self._number[i + di, j + dj])
            weights.append(np.full(len(i), np.hypot(di, dj) * self.cell))
        return np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)

    def _shifted_and(self, cells: List[Tuple[int, int]], di: int, dj: int) -> np.ndarray:
        nx, ny = self.free.shape
        j0, width = max(0, -dj), max(0, ny - abs(dj))
        height = max(0, nx - di)
        result = np.ones((height, width), dtype=bool)
        for i, j in cells:
            result &= self.free[i : i + height, j0 + j : j0 + j + width]
        return result

    def _distance_beside_obstacle(self, point: np.ndarray, field: np.ndarray) -> float:
        if self.snap(point) is None:
            return float("inf")
        cells = self._cells_around(point)
        ways = np.linalg.norm(self.centre(cells) - point, axis=1) + field[cells[:, 0], cells[:, 1]]
        return float(ways.min())

    def _downhill(self, cell: Tuple[int, int], field: np.ndarray) -> Tuple[int, int]:
        best, best_way = cell, np.inf
        for (di, dj), crossed in DIRECTIONS:
            for sign in (1, -1):
                steps = [(cell[0] + sign * i, cell[1] + sign * j) for i, j in [*crossed, (di, dj)]]
                if all(self._is_free(step) for step in steps):
                    way = field[steps[-1]] + np.hypot(di, dj) * self.cell
                    if way < best_way and field[steps[-1]] < field[cell]:
                        best, best_way = steps[-1], way
        if best == cell:
            raise RuntimeError("the distance field has a local minimum away from the goal")
        return best

    def _is_free(self, cell: Tuple[int, int]) -> bool:
        i, j = cell
        return 0 <= i < self.free.shape[0] and 0 <= j < self.free.shape[1] and bool(self.free[i, j])

    def _pull(self, corners: np.ndarray) -> np.ndarray:
        """Drop corners that can be cut without leaving the free cells."""
        kept, at = [0], 0
        while at < len(corners) - 1:
            nxt = len(corners) - 1
            while nxt > at + 1 and not self.line_is_free(corners[at], corners[nxt]):
                nxt -= 1
            kept.append(nxt)
            at = nxt
        return corners[kept]
