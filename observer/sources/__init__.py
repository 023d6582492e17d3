"""Where packets and recorded flows come from."""
