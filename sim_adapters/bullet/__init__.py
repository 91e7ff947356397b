"""PointGoal navigation in PyBullet: procedural rooms and apartments, and Gibson meshes."""
