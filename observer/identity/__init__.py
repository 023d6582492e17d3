"""Who is at an address: endpoints, their labels and identities."""
