"""habitat-lab's PointNav as a Gymnasium environment, and our PyBullet scenes as its simulator."""
