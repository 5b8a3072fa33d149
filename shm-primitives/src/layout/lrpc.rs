//! LRPC
