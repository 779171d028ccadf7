"""From finished calls to OpenTelemetry: spans, metrics, and the thread that makes them."""
