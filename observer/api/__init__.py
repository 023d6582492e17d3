"""Generated protobuf code (`make proto`); a test checks it against proto/."""
