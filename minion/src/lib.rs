//! Drover's agent on the device: execution functions, outbox, local bus.
