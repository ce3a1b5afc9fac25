"""What is raised where a net is not homogeneous."""


class NotHomogeneousError(TypeError):
    """A part of a net breaks F(a x) = a F(x); the message names its path, its type and what to do."""
