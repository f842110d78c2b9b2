"""One NVIDIA GPU, reached with ctypes through the driver's own library: no CUDA package is needed."""
