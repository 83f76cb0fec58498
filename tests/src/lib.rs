//! Drover's harness for scenario tests with real parts, and its fleet simulator.
