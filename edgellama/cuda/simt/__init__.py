"""What kernels are written on: CUDA threads and their registers, as PTX or emulated on this CPU."""
