//! What a device watches about itself, and when it tells.
