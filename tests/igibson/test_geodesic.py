"""One distance field a goal against A* on the same graph, with the scene's own arithmetic and without iGibson."""

from __future__ import annotations

import math
from typing import Any

import networkx
import numpy as np
import pytest

from sim_adapters.igibson.geodesic import ScenePaths

SIZE, CELL_M = 40, 0.1


class Scene:
    """What ScenePaths needs of an iGibson scene; `astar` is iGibson 2.2.2's `get_shortest_path` in other words."""

    trav_map_resolution = CELL_M
    waypoint_interval = 2
    num_waypoints = 10

    def __init__(self, free: np.ndarray) -> None:
        graph = networkx.Graph()
        for i, j in np.argwhere(free).tolist():
            graph.add_node((i, j))
            for n in ((i - 1, j - 1), (i, j - 1), (i + 1, j - 1), (i - 1, j)):
                if 0 <= n[0] < SIZE and 0 <= n[1] < SIZE and free[n]:
                    graph.add_edge(n, (i, j), weight=math.dist(n, (i, j)))
        largest = max(networkx.connected_components(graph), key=len)
        self.floor_graph = [graph.subgraph(largest).copy()]

    def map_to_world(self, xy: np.ndarray) -> np.ndarray:
        return np.flip((xy - SIZE / 2) * CELL_M, axis=xy.ndim - 1)

    def world_to_map(self, xy: Any) -> np.ndarray:
        return np.flip(np.array(xy) / CELL_M + SIZE / 2).astype(int)

    def astar(self, source: Any, target: Any) -> float:
        graph = self.floor_graph[0]
        ends = [tuple(int(v) for v in self.world_to_map(xy)) for xy in (target, source)]
        for node in ends:
            if not graph.has_node(node):
                nodes = np.array(graph.nodes)
                nearest = nodes[np.argmin(np.linalg.norm(nodes - node, axis=1))]
                graph.add_edge(tuple(nearest.tolist()), node, weight=math.dist(nearest, node))
        path = np.array(networkx.astar_path(graph, ends[1], ends[0], heuristic=math.dist))
        return float(np.linalg.norm(np.diff(self.map_to_world(path), axis=0), axis=1).sum())


@pytest.fixture
def free() -> np.ndarray:
    """A room with walls, and an island that cannot be reached."""
    free = np.zeros((SIZE, SIZE), bool)
    free[2:-2, 2:-2] = True
    free[10, 2:30] = free[20:24, 12:-2] = free[30, 5:15] = False
    free[4:9, 20] = free[4:9, 26] = free[4, 20:27] = free[8, 20:27] = False
    return free


def test_distances_are_those_of_astar_on_the_graph_and_off_it(free: np.ndarray) -> None:
    ours, theirs = Scene(free), Scene(free)
    paths = ScenePaths(ours)
    paths.install()
    rng = np.random.default_rng(0)
    off = 0
    for _ in range(12):
        goal = rng.uniform(-1.95, 1.95, 2)
        for _ in range(25):
            source = rng.uniform(-1.95, 1.95, 2)
            off += not free[tuple(ours.world_to_map(source))]
            expected = theirs.astar(source, goal)
            assert paths.distance(0, source, goal) == pytest.approx(expected, abs=1e-12)
            path, distance = ours.get_shortest_path(0, source, goal, entire_path=True)
            assert distance == pytest.approx(expected, abs=1e-12)
            whole = paths.path(0, source, goal)
            steps = np.linalg.norm(np.diff(whole, axis=0), axis=1)
            assert steps.sum() == pytest.approx(expected, abs=1e-9)
            np.testing.assert_array_equal(path, whole[::2])
    assert off > 50
    assert set(ours.floor_graph[0].nodes) == set(theirs.floor_graph[0].nodes)


def test_a_short_answer_has_ten_waypoints_and_ends_at_the_goal(free: np.ndarray) -> None:
    scene = Scene(free)
    ScenePaths(scene).install()
    path, _ = scene.get_shortest_path(0, [-1.5, -1.5], [-1.5, -1.2])
    assert path.shape == (10, 2)
    np.testing.assert_array_equal(path[-1], [-1.5, -1.2])


def test_nodes_that_the_search_itself_joined_to_the_graph_are_found(free: np.ndarray) -> None:
    scene = Scene(free)
    paths = ScenePaths(scene)
    goal = [1.5, 1.5]
    paths.distance(0, [-1.5, -1.5], goal)
    for source in ([-1.99, -1.99], [1.99, -1.99], [0.05, 0.15]):
        expected = scene.astar(source, goal)  # joins its cell to the same graph
        assert paths.distance(0, source, goal) == pytest.approx(expected, abs=1e-12)
