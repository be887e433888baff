//! What the engine does at single events.
