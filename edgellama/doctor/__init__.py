"""What could be wrong with an installation or a machine, as checks that each give one Finding; `edgellama doctor`."""
