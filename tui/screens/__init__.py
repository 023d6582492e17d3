"""The four screens (flows, top, map, nodes) and the windows that open over them."""
