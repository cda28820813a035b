"""Host mechanisms over the C core: rings, registers, capabilities, filters, chunking."""
