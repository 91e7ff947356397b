"""iGibson's geodesic distances from one search a goal instead of one a step.

iGibson 2.2.2 searches its traversability graph with A* at every step, for the reward: 4 ms in a room, more in a house.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np

Node = Tuple[int, int]


class GraphMatrix:
    """A traversability graph as SciPy searches it; to be made anew when the graph gets nodes.

    Args:
        graph: a networkx graph whose nodes are cells (row, column), edges weighted in cells.
    """

    def __init__(self, graph: Any) -> None:
        from scipy.sparse import csr_matrix

        self.nodes: List[Node] = list(graph.nodes)
        self.index = {node: i for i, node in enumerate(self.nodes)}
        edges = [(self.index[a], self.index[b], w) for a, b, w in graph.edges(data="weight")]
        rows, columns, weights = (np.array(part) for part in zip(*edges)) if edges else ([], [], [])
        half = csr_matrix((weights, (rows, columns)), shape=(len(self.nodes), len(self.nodes)))
        self.matrix = half + half.T


class DistanceField:
    """Distances of one floor's graph from one goal.

    Args:
        graph: the floor's.
        goal: a node of it.
    """

    def __init__(self, graph: GraphMatrix, goal: Node) -> None:
        from scipy.sparse.csgraph import dijkstra

        self.goal = goal
        nodes = graph.nodes
        found, before = dijkstra(graph.matrix, indices=graph.index[goal], return_predecessors=True)
        self._cells: Dict[Node, float] = dict(zip(nodes, found.tolist()))
        self._next: Dict[Node, Node] = {
            node: nodes[i] for node, i in zip(nodes, before.tolist()) if i >= 0
        }

    def add(self, node: Node, neighbour: Node, weight: float) -> None:
        """Take in a node that the graph got since, joined to `neighbour` alone."""
        self._cells[node] = self._cells[neighbour] + weight
        self._next[node] = neighbour

    def knows(self, node: Node) -> bool:
        """Whether the field has the node."""
        return node in self._cells

    def distance(self, node: Node) -> float:
        """Cells from `node` to the goal."""
        return self._cells[node]

    def path(self, node: Node) -> np.ndarray:
        """Nodes from `node` to the goal, both included: int (n, 2)."""
        way = [node]
        while way[-1] != self.goal:
            way.append(self._next[way[-1]])
        return np.array(way)


class ScenePaths:
    """Answers what an iGibson scene's `get_shortest_path` answers, from a field for each goal.

    Like iGibson it adds a cell off the graph to it, joined to the nearest cell that is there. Where several paths are
    shortest it may choose another one of them than A*.

    Args:
        scene: an iGibson IndoorScene that was loaded with `build_graph`.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._field: Any = None
        self._floor = -1
        self._matrices: Dict[int, GraphMatrix] = {}

    def install(self) -> None:
        """Make the scene use it."""
        self._scene.get_shortest_path = self.get_shortest_path

    def distance(self, floor: int, source: Any, target: Any) -> float:
        """Metres from `source` to `target`, (x, y) each."""
        start = self._prepare(floor, source, target)
        return float(self._field.distance(start)) * self._scene.trav_map_resolution

    def path(self, floor: int, source: Any, target: Any) -> np.ndarray:
        """Cell corners (n, 2), metres, of a shortest path."""
        start = self._prepare(floor, source, target)
        return np.asarray(self._scene.map_to_world(self._field.path(start)))

    def get_shortest_path(
        self, floor: int, source_world: Any, target_world: Any, entire_path: bool = False
    ) -> Tuple[np.ndarray, float]:
        """iGibson's signature and result: waypoints (n, 2) and the geodesic distance, metres."""
        scene = self._scene
        path = self.path(floor, source_world, target_world)[:: scene.waypoint_interval]
        if not entire_path:
            path = path[: scene.num_waypoints]
            missing = scene.num_waypoints - len(path)
            path = np.concatenate([path, np.tile(target_world, (missing, 1))]) if missing else path
        return path, self.distance(floor, source_world, target_world)

    def _prepare(self, floor: int, source: Any, target: Any) -> Node:
        """Make the field the one of `target`; returns the node of `source`."""
        graph = self._scene.floor_graph[floor]
        goal, start = (self._node(xy) for xy in (target, source))
        joined = self._join(graph, goal)
        if joined is not None or floor != self._floor or self._field.goal != goal:
            self._field, self._floor = DistanceField(self._matrix(floor), goal), floor
        joined = self._join(graph, start)
        if joined is not None and self._field.knows(joined[0]):
            self._field.add(start, *joined)
        elif not self._field.knows(start):
            # iGibson's own search has joined nodes to the graph since.
            self._field = DistanceField(self._matrix(floor), goal)
        return start

    def _matrix(self, floor: int) -> GraphMatrix:
        graph, made = self._scene.floor_graph[floor], self._matrices.get(floor)
        if made is None or len(made.nodes) != graph.number_of_nodes():
            made = self._matrices[floor] = GraphMatrix(graph)
        return made

    def _node(self, xy: Any) -> Node:
        row, column = self._scene.world_to_map(xy)
        return int(row), int(column)

    @staticmethod
    def _join(graph: Any, node: Node) -> Any:
        """Add `node` to the graph if it is not there; returns its neighbour and their distance in cells."""
        if graph.has_node(node):
            return None
        nodes = np.array(graph.nodes)
        apart = np.linalg.norm(nodes - node, axis=1)
        nearest = int(np.argmin(apart))
        neighbour = (int(nodes[nearest][0]), int(nodes[nearest][1]))
        graph.add_edge(neighbour, node, weight=float(apart[nearest]))
        return neighbour, float(apart[nearest])
