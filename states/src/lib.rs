//! Salt's states for devices: rendering, compiling, requisites, the run and the state modules.
