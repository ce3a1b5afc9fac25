"""What is measured of attributions and predictions: pure functions of tensors and arrays.

Each metric's docstring says its unit, its range and which direction is better.
"""
