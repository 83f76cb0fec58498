//! The harness of Drover's scenario tests: a whole fleet of real processes on loopback, each in its own directory.
//! The programs come from the build directory that the tests themselves lie in: `make test` builds them first.

pub mod disk;
pub mod fleet;
pub mod local_bus;
pub mod openssl;
pub mod parts;
pub mod process;
pub mod simulator;
pub mod wait;
