//! The wire between Drover's master and minions: messages, codec, session, targeting, events and the tunnel.
